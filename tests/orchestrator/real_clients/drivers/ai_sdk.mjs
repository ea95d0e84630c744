// Vercel's AI SDK. PROVIDER is `compatible` (chat completions), `openai` (responses, its default) or `openai.chat`.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const [name, provider, ...wanted] = process.argv.slice(2);
const given = { apiKey: process.env.OPENAI_API_KEY, baseURL: process.env.OPENAI_BASE_URL };
const make = {
  compatible: () => createOpenAICompatible({ name: "ours", ...given }),
  openai: () => createOpenAI(given),
  "openai.chat": () => createOpenAI(given).chat,
}[provider]();
const model = make(name);
const called = [];
const tools = {
  get_price: tool({
    description: "Look up the price of an item in the shop.",
    inputSchema: z.object({ item: z.string() }),
    execute: async ({ item }) => { called.push(["get_price", { item }]); return { lamp: 12.5 }[item]; },
  }),
  multiply: tool({
    description: "Multiply two numbers.",
    inputSchema: z.object({ a: z.number(), b: z.number() }),
    execute: async ({ a, b }) => { called.push(["multiply", { a, b }]); return a * b; },
  }),
};
const prompt = "Look up the price of a lamp, then multiply it by 3.";

const does = {
  async chat() {
    const { text, finishReason, usage } = await generateText({ model, prompt: "Say hello" });
    return { text, finish: finishReason, tokens: usage.outputTokens };
  },
  async stream() {
    let text = "", pieces = 0, failed = null;
    const result = streamText({ model, prompt: "Please count to 30", onError: ({ error }) => { failed = String(error); } });
    for await (const piece of result.textStream) { text += piece; pieces += 1; }
    if (failed) throw new Error(failed);
    return { text, pieces, finish: await result.finishReason };
  },
  async tools() {
    called.length = 0;
    const { text } = await generateText({ model, prompt, tools, stopWhen: stepCountIs(5) });
    return { text, called: [...called] };
  },
  async "tools streamed"() {
    called.length = 0;
    const result = streamText({ model, prompt, tools, stopWhen: stepCountIs(5) });
    let text = "";
    for await (const piece of result.textStream) text += piece;
    return { text, called: [...called] };
  },
  async object() {
    const { object } = await generateObject({
      model, schema: z.object({ name: z.string(), age: z.number() }), prompt: "Extract: John Doe is 25 years old.",
    });
    return object;
  },
  async embedded() {
    const vectors = provider === "compatible" ? createOpenAICompatible({ name: "ours", ...given }) : createOpenAI(given);
    const values = ["a red lamp", "a green lamp", "Paris"];
    const { embeddings: found } = await embedMany({ model: vectors.embeddingModel("embedder"), values });
    const near = (a, b) => a.reduce((sum, each, at) => sum + each * b[at], 0);
    return {
      vectors: found.length, size: found[0].length, alike: near(found[0], found[1]) > near(found[0], found[2]),
    };
  },
  async errors() {
    const found = {};
    for (const [what, run] of Object.entries({
      model: () => generateText({ model: make("no-such-model"), prompt: "Hi" }),
      long: () => generateText({ model, prompt: "word ".repeat(5000) }),
    })) {
      try { await run(); found[what] = "no error"; }
      catch (error) { found[what] = [error.name, error.statusCode, error.isRetryable]; }
    }
    return found;
  },
  async cancel() {
    const stopped = new AbortController();
    const result = streamText({ model, prompt: "count to 5000", abortSignal: stopped.signal });
    let seen = 0;
    for await (const _ of result.textStream) if (++seen === 5) { stopped.abort(); break; }
    return { left: true };
  },
};

for (const what of wanted.length ? wanted : Object.keys(does)) {
  try { console.log(JSON.stringify({ [what]: await does[what]() })); }
  catch (error) { console.log(JSON.stringify({ [what]: `${error.name}: ${error.message}`.slice(0, 300) })); }
}
