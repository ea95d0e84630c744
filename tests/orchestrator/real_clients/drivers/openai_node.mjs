// OpenAI's own library for node, as its README uses it. OPENAI_BASE_URL and OPENAI_API_KEY say where.
import OpenAI from "openai";

const [model, ...wanted] = process.argv.slice(2);
const client = new OpenAI();
const user = (content) => [{ role: "user", content }];
const have = { get_price: ({ item }) => ({ lamp: 12.5 })[item], multiply: ({ a, b }) => a * b };
const tool = (name, description, properties) => ({
  type: "function",
  function: { name, description, parameters: { type: "object", properties, required: Object.keys(properties) } },
});
const tools = [
  tool("get_price", "Look up the price of an item in the shop.", { item: { type: "string" } }),
  tool("multiply", "Multiply two numbers.", { a: { type: "number" }, b: { type: "number" } }),
];

const does = {
  async chat() {
    const answer = await client.chat.completions.create({ model, messages: user("Say hello") });
    return { text: answer.choices[0].message.content, finish: answer.choices[0].finish_reason };
  },
  async stream() {
    let text = "", pieces = 0;
    for await (const chunk of await client.chat.completions.create({ model, messages: user("Please count to 30"), stream: true })) {
      const piece = chunk.choices[0]?.delta?.content;
      if (piece) { text += piece; pieces += 1; }
    }
    return { text, pieces };
  },
  async tools() {
    const called = [];
    const runnable = tools.map(({ function: f }) => ({
      type: "function",
      function: { ...f, parse: JSON.parse, function: (given) => { called.push([f.name, given]); return String(have[f.name](given)); } },
    }));
    const runner = client.chat.completions.runTools({
      model, messages: user("Look up the price of a lamp, then multiply it by 3."), tools: runnable, stream: true,
    });
    return { text: await runner.finalContent(), called };
  },
  async errors() {
    const found = {};
    const tries = {
      model: () => client.chat.completions.create({ model: "no-such-model", messages: user("Hi") }),
      long: () => client.chat.completions.create({ model, messages: user("word ".repeat(5000)), stream: true }),
      key: () => new OpenAI({ apiKey: "wrong" }).models.list(),
    };
    for (const [name, run] of Object.entries(tries)) {
      try { await run(); found[name] = "no error"; }
      catch (error) { found[name] = [error.constructor.name, error.status, error.code, Boolean(error.requestID)]; }
    }
    return found;
  },
  async cancel() {
    const stream = await client.chat.completions.create({ model, messages: user("count to 5000"), stream: true });
    let seen = 0;
    for await (const _ of stream) if (++seen === 5) stream.controller.abort();
    return { left: true };
  },
};

for (const what of wanted.length ? wanted : Object.keys(does)) console.log(JSON.stringify({ [what]: await does[what]() }));
