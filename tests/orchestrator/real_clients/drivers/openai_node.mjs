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
  async responded() {
    let stream = "", pieces = 0;
    for await (const event of client.responses.stream({ model, input: "Please count to 30" })) {
      if (event.type === "response.output_text.delta") { stream += event.delta; pieces += 1; }
    }
    const flat = tools.map(({ function: f }) => ({ type: "function", ...f, strict: false }));
    const called = [];
    let kept = null, input = "Look up the price of a lamp, then multiply it by 3.", answer;
    for (let turn = 0; turn < 5; turn += 1) {
      answer = await client.responses.create({ model, input, tools: flat, previous_response_id: kept });
      const calls = answer.output.filter((item) => item.type === "function_call");
      if (!calls.length) break;
      kept = answer.id;
      input = calls.map((call) => {
        const given = JSON.parse(call.arguments);
        called.push([call.name, given]);
        return { type: "function_call_output", call_id: call.call_id, output: String(have[call.name](given)) };
      });
    }
    const read = await client.responses.retrieve(answer.id);
    const items = [];
    for await (const item of client.responses.inputItems.list(answer.id)) items.push(item.type);
    await client.responses.delete(answer.id);
    return { stream, pieces, called, text: answer.output_text, read: read.output_text === answer.output_text, items };
  },
  async embedded() {
    const answer = await client.embeddings.create({ model: "embedder", input: ["a red lamp", "a green lamp", "Paris"] });
    const found = answer.data.map((each) => each.embedding);
    const near = (a, b) => a.reduce((sum, each, at) => sum + each * b[at], 0);
    return {
      vectors: found.length, size: found[0].length, alike: near(found[0], found[1]) > near(found[0], found[2]),
    };
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
