/**
 * Nothing is lost or changed on the way: what a client writes reaches the server as it is written, and what a
 * server writes the client, to the last digit, over every transport and through all that is between.
 */
import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { jsonText, plainJsonText, plainObjectText } from "./arbitrary_json.ts";
import { eventsOf, initialize, openSession, openSse } from "./streams.ts";
import { type Bridge, META, openBridge } from "./world.ts";

const options = { sanitizeResources: false, sanitizeOps: false };
const SCRIPTED = new URL("servers/scripted.mjs", import.meta.url).pathname;

/** Sends a request by its members' texts. @returns the texts of all messages up to its answer */
type Ask = (
  method: string,
  params: Record<string, string>,
  /** The members of `_meta`. */
  meta?: Record<string, string>,
) => Promise<string[]>;

const ID = `"to\\u0020lose"`;

function requestText(
  method: string,
  params: Record<string, string>,
  meta: Record<string, string>,
): string {
  const all = Object.keys(meta).length > 0 ? { ...params, _meta: objectOf(meta) } : params;
  return `{"jsonrpc":"2.0","id":${ID},"method":"${method}","params":${objectOf(all)}}`;
}

function objectOf(members: Record<string, string>): string {
  return `{${Object.entries(members).map(([name, text]) => `"${name}":${text}`).join(",")}}`;
}

/** The texts of a response's messages, JSON or stream. */
async function textsOf(response: Response): Promise<string[]> {
  if (!response.headers.get("content-type")?.startsWith("text/event-stream")) {
    return [await response.text()];
  }
  const texts = [];
  for await (const { data } of eventsOf(response)) if (data) texts.push(data);
  return texts;
}

/** The ways by which a client comes, each as one that asks. */
const WAYS: Record<string, (bridge: Bridge) => Promise<{ ask: Ask; close: () => void }>> = {
  "2026-07-28": (bridge) =>
    Promise.resolve({
      close() {},
      async ask(method, params, meta = {}) {
        const own = Object.entries(META).map(([name, value]) => [name, JSON.stringify(value)]);
        const name = params.name ?? params.uri;
        const headers = {
          "mcp-protocol-version": "2026-07-28",
          "mcp-method": method,
          "mcp-name": JSON.parse(name),
        };
        const all = {
          ...Object.fromEntries(own),
          "io.modelcontextprotocol/logLevel": `"debug"`,
          ...meta,
        };
        return await textsOf(await bridge.post(requestText(method, params, all), headers));
      },
    }),
  "2025-11-25": async (bridge) => {
    const session = await openSession(bridge);
    let replica = 0;
    return {
      close() {},
      ask: async (method, params, meta = {}) =>
        await textsOf(
          await session.send(replica = 1 - replica, { body: requestText(method, params, meta) }),
        ),
    };
  },
  // Of another revision than it comes from, which has all of these too.
  "HTTP+SSE": async (bridge) => {
    const sse = await openSse(bridge, 0);
    await sse.post(0, initialize("2025-11-25"));
    await sse.next();
    let replica = 0;
    return {
      close: sse.cut,
      async ask(method, params, meta = {}) {
        await sse.post(replica = 1 - replica, requestText(method, params, meta));
        const texts: string[] = [];
        do texts.push((await sse.nextText())!); while (!texts.at(-1)!.includes(ID));
        return texts;
      },
    };
  },
};

/** Parts of a result where a client may meet anything. */
const result = fc.tuple(jsonText, jsonText, jsonText, jsonText).map((
  [extra, structured, meta, unknown],
) => ({
  content: `[{"type":"text","text":"x","extra":${extra}},{"type":"image","data":"","more":1.0}]`,
  structuredContent: `{"value":${structured}}`,
  _meta: `{"com.example/x" :${meta}}`,
  unheardOf: unknown,
}));

/** Makes a result so large that it travels as bytes. */
const PADDING = `"${'Grüße, 漢字 🙂 \\ud800 \\u0000 \\" 9007199254740993\\n'.repeat(400)}"`;

Deno.test({
  name: "what a server says reaches a client over every transport as it was written",
  ...options,
  async fn(t) {
    await using bridge = await openBridge(SCRIPTED);
    for (const [way, open] of Object.entries(WAYS)) {
      const { ask, close } = await open(bridge);
      const says = (given: Record<string, string>, meta?: Record<string, string>) =>
        ask("tools/call", { name: `"demo__says"`, arguments: JSON.stringify(given) }, meta);

      await t.step(`results and errors of tools, ${way}`, () =>
        fc.assert(
          fc.asyncProperty(result, jsonText, async (members, data) => {
            const [answer] = await says({ text: objectOf(members) });
            assertHolds(answer, Object.values(members));
            const large = { padding: PADDING, ...members, last: PADDING };
            const [whole] = await says({ text: objectOf(large) });
            assertHolds(whole, Object.values(large));
            const error = `{"code":-32000,"message":"it broke","data":${data}}`;
            const [failure] = await says({ as: "error", text: error });
            assertHolds(failure, [error]);
          }),
          { numRuns: 60 },
        ));

      await t.step(`progress and log messages, ${way}`, () =>
        fc.assert(
          fc.asyncProperty(jsonText, async (told) => {
            const token = `"my\\u0020token"`;
            const texts = await says({ told, text: `{"content":[]}` }, { progressToken: token });
            const [progress, message] = texts;
            assert.equal(texts.length, 3, texts.join("\n"));
            assertHolds(progress, [`"progressToken":${token}`, `"extra":${told}`]);
            assertHolds(message, [`"level":"error"`, `"data":${told}`]);
          }),
          { numRuns: 40 },
        ));

      await t.step(`prompts and resources, ${way}`, () =>
        fc.assert(
          fc.asyncProperty(jsonText, jsonText, async (one, two) => {
            const messages = `[{"role":"user","content":{"type":"text","text":"","x":${one}}}]`;
            const prompt = objectOf({ messages, unheardOf: two });
            const [got] = await ask("prompts/get", {
              name: `"demo__says"`,
              arguments: JSON.stringify({ text: prompt }),
            });
            assertHolds(got, [messages, `"unheardOf":${two}`]);
            const contents = `[{"uri":"text:x","text":"","x":${one}}]`;
            const uri = `text:${encodeURIComponent(objectOf({ contents, unheardOf: two }))}`;
            const [read] = await ask("resources/read", { uri: JSON.stringify(uri) });
            assertHolds(read, [contents, `"unheardOf":${two}`]);
          }),
          { numRuns: 40 },
        ));
      close();
    }
  },
});

Deno.test({
  name:
    "a result of a type that a client's revision has not is an error that holds it, else it passes",
  ...options,
  async fn() {
    await using bridge = await openBridge(SCRIPTED);
    for (const [way, open] of Object.entries(WAYS)) {
      const { ask, close } = await open(bridge);
      for (const padding of [`""`, PADDING]) {
        const text =
          `{"resultType":"com.example/partial","content":[],"n":[1.0],"padding":${padding}}`;
        const uri = JSON.stringify(`text:${encodeURIComponent(text)}`);
        const given = JSON.stringify({ text });
        for (
          const [method, params] of [
            ["tools/call", { name: `"demo__says"`, arguments: given }],
            ["prompts/get", { name: `"demo__says"`, arguments: given }],
            // The name of a header is as long as a header may be.
            ...(padding === `""` ? [["resources/read", { uri }] as const] : []),
          ] as const
        ) {
          const [answer] = await ask(method, params);
          const isModern = way === "2026-07-28";
          assertHolds(answer, [isModern ? `"result":${text}` : `{"dev.mooring/result":${text}}`]);
          assert.equal(JSON.parse(answer).error?.code, isModern ? undefined : -31002);
        }
      }
      close();
    }
  },
});

Deno.test({
  name: "what a client says reaches a server over every transport as it was written",
  ...options,
  async fn(t) {
    await using bridge = await openBridge(SCRIPTED);
    for (const [way, open] of Object.entries(WAYS)) {
      const { ask, close } = await open(bridge);
      await t.step(way, () =>
        fc.assert(
          fc.asyncProperty(
            plainObjectText,
            plainJsonText,
            plainJsonText,
            async (given, extra, meta) => {
              const [answer] = await ask("tools/call", {
                name: `"demo__heard"`,
                arguments: given,
                unheardOf: extra,
              }, { "com.example/x": meta });
              assert.ok(answer.includes(ID), "its id as the client wrote it");
              const heard = JSON.parse(answer).result.content[0].text;
              assertHolds(heard, [
                `"arguments":${given}`,
                `"unheardOf":${extra}`,
                `"com.example/x":${meta}`,
              ]);
              assert.ok(!heard.includes("dev.mooring"), "what is Mooring's own stays within");
            },
          ),
          { numRuns: 60 },
        ));
      close();
    }
  },
});

Deno.test({
  name: "a server's question and a client's answer to it pass as they were written",
  ...options,
  async fn() {
    await using bridge = await openBridge(SCRIPTED);
    const session = await openSession(bridge, { capabilities: { elicitation: {} } });
    await fc.assert(
      fc.asyncProperty(jsonText, plainJsonText, async (schema, content) => {
        const question = `{"message":"Who?","requestedSchema":{"type":"object","x":${schema}}}`;
        const response = await session.send(0, {
          body: requestText("tools/call", {
            name: `"demo__asks"`,
            arguments: JSON.stringify({ text: question }),
          }, {}),
        });
        const given = `{"action":"accept","content":{"who":${content}}}`;
        let answer = "";
        for await (const { data } of eventsOf(response)) {
          if (!data) continue;
          if (data.includes(ID)) answer = data;
          else {
            assertHolds(data, [`"params":${question}`]);
            const { id } = JSON.parse(data);
            const body = `{"jsonrpc":"2.0","id":${JSON.stringify(id)},"result":${given}}`;
            assert.equal((await session.send(1, { body })).status, 202);
          }
        }
        assertHolds(JSON.parse(answer).result.content[0].text, [`"result":${given}`]);
      }),
      { numRuns: 60 },
    );
  },
});

/** A message holds each of the texts, and is JSON. */
function assertHolds(message: string, texts: string[]): void {
  for (const text of texts) assert.ok(message.includes(text), `${message}\nlacks\n${text}`);
  JSON.parse(message);
}
