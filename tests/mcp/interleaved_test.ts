/** Ids and progress tokens count from 1 in every client: none may get what is another's. */
import assert from "node:assert/strict";
import { calling, initialize, messagesOf, openSession, openSse, sender } from "./streams.ts";
import { type Bridge, modern, openBridge } from "./world.ts";

const CALLS_EACH = 500;
/** Of one client, at the same time. */
const IN_FLIGHT = 16;
/** Of each transport. */
const CLIENTS = { stateless: 9, session: 9, httpSse: 2 };

// deno-lint-ignore no-explicit-any
type Json = any;
/** Makes a call. @returns its answer, and what was told before it under its token */
type Call = (id: number, text: string, token?: number) => Promise<{ answer: Json; told: Json[] }>;

const split = (messages: Json[]) => ({ answer: messages.at(-1), told: messages.slice(0, -1) });
const given = (token?: number) => token === undefined ? undefined : { progressToken: token };

function stateless(bridge: Bridge): Promise<Call> {
  const send = sender(bridge);
  return Promise.resolve(async (id, text, token) => {
    const params = { name: "demo__shuffles", arguments: { text }, _meta: given(token) };
    return split(await messagesOf(await send(id % 2, modern("tools/call", params, id))));
  });
}

async function session(bridge: Bridge): Promise<Call> {
  const { send } = await openSession(bridge);
  return async (id, text, token) => {
    const body = calling(id, "demo__shuffles", { text }, given(token));
    return split(await messagesOf(await send(id % 2, { body })));
  };
}

async function httpSse(bridge: Bridge, number: number): Promise<Call> {
  const sse = await openSse(bridge, number % 2);
  await sse.post(0, initialize("2024-11-05"));
  await sse.next();
  const under = new Map<number, { told: Json[]; answered: (answer: Json) => void }>();
  (async () => {
    for (let message = await sse.next(); message; message = await sse.next()) {
      if (message.method) under.get(message.params.progressToken)!.told.push(message);
      else under.get(message.id)!.answered(message);
    }
  })();
  return async (id, text, token) => {
    const { promise, resolve } = Promise.withResolvers<Json>();
    const told: Json[] = [];
    under.set(id, { told, answered: resolve });
    await sse.post(id % 2, calling(id, "demo__shuffles", { text }, given(token)));
    return { answer: await promise, told };
  };
}

Deno.test({
  name: "10,000 interleaved calls of many clients on all transports: each gets its own answer",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    await using bridge = await openBridge("shuffles");
    const opening = Object.entries({ stateless, session, httpSse }).flatMap(([way, open]) =>
      Array.from({ length: CLIENTS[way as keyof typeof CLIENTS] }, (_, n) => open(bridge, n))
    );
    const clients = await Promise.all(opening);
    let answered = 0;
    await Promise.all(clients.map(async (call, client) => {
      let last = 0;
      const worker = async () => {
        while (last < CALLS_EACH) {
          const id = ++last, text = `${client} ${id}`;
          const token = id % 3 === 0 ? id : undefined;
          const { answer, told } = await call(id, text, token);
          assert.equal(answer.id, id);
          assert.equal(answer.result?.content[0].text, text, JSON.stringify(answer));
          assert.deepEqual(
            told.map(({ params }) => params),
            token === undefined ? [] : [{ progressToken: token, progress: 0.5, message: text }],
          );
          answered++;
        }
      };
      await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
    }));
    assert.equal(answered, 10_000);
    assert.deepEqual(bridge.logged, []);
  },
});
