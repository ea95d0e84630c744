// What a page does with OpenAI's library, which is bundled into it.
import OpenAI from "openai";

const user = (content) => [{ role: "user", content }];
const client = (baseURL, apiKey) => new OpenAI({ baseURL, apiKey, dangerouslyAllowBrowser: true });

window.does = {
  async stream(baseURL, apiKey, model) {
    const asked = { model, messages: user("Please count to 30"), stream: true };
    let text = "", pieces = 0;
    for await (const chunk of await client(baseURL, apiKey).chat.completions.create(asked)) {
      const piece = chunk.choices[0]?.delta?.content;
      if (piece) { text += piece; pieces += 1; }
    }
    return { text, pieces };
  },
  async cancel(baseURL, apiKey, model) {
    const asked = { model, messages: user("count to 5000"), stream: true };
    const stream = await client(baseURL, apiKey).chat.completions.create(asked);
    let seen = 0;
    for await (const _ of stream) if (++seen === 5) stream.controller.abort();
    return { left: true };
  },
  async error(baseURL, apiKey) {
    try { await client(baseURL, apiKey).chat.completions.create({ model: "no-such-model", messages: user("Hi") }); }
    catch (error) { return [error.constructor.name, error.status, error.code, Boolean(error.requestID)]; }
  },
};
