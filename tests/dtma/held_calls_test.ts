import assert from "node:assert/strict";
import {
  type JsonRpcNotification,
  type JsonRpcResponse,
  responseText,
} from "../../dtma/connection.ts";
import { CALLER_META, ErrorCode, INPUT_ERROR } from "../../dtma/protocol.ts";
import type { Session } from "../../dtma/session.ts";
import { serverEverything, startServer, textOf, toolCall } from "./stdio_server.ts";

const CAPABILITIES = "io.modelcontextprotocol/clientCapabilities";
const ALL = { elicitation: { form: {}, url: {} }, sampling: { tools: {} }, roots: {} };
const FORM = {
  method: "elicitation/create",
  params: { message: "Who?", requestedSchema: { type: "object", properties: {} } },
};
const ROOTS = { method: "roots/list" };
const SAMPLE = { method: "sampling/createMessage", params: { messages: [], maxTokens: 1 } };

/** A call by a client that can be asked everything, unless it is said otherwise. */
function call(
  name: string,
  args: Record<string, unknown> = {},
  { capabilities = ALL, meta = {} }: { capabilities?: unknown; meta?: object } = {},
) {
  return toolCall(name, args, { meta: { [CAPABILITIES]: capabilities, ...meta } });
}

interface InputRequired {
  resultType: string;
  inputRequests: Record<string, { method: string; params: Record<string, unknown> }>;
  requestState: string;
}

function inputRequired(response: JsonRpcResponse): InputRequired {
  const result = response.result as unknown as InputRequired;
  assert.equal(result?.resultType, "input_required", responseText(response));
  return result;
}

/** The same call again, with the answers. */
function retry(
  request: ReturnType<typeof call>,
  { requestState }: InputRequired,
  inputResponses: Record<string, unknown> = {},
) {
  return { ...request, id: 2, params: { ...request.params, requestState, inputResponses } };
}

/** What the server was told, or what came in to it. */
function valueOf({ result, error }: JsonRpcResponse) {
  assert.ok(result, JSON.stringify(error));
  return (result.structuredContent as { value: Record<string, unknown>[] }).value;
}

async function seenBy(session: Session, method: string) {
  return valueOf(await session.call(call("seen"), {})).filter((each) => each.method === method);
}

Deno.test("a question of an older server is put to its caller, whose retry ends the call", async () => {
  await using server = startServer("questions");
  const session = await server.open();
  const request = call("asks", { requests: [FORM] });
  const asked = inputRequired(await session.call(request, {}));
  assert.deepEqual(asked.inputRequests, { "1": FORM });
  assert.equal(session.held, 1);
  const answer = { action: "accept", content: { name: "Ann" } };
  const response = await session.call(retry(request, asked, { "1": answer }), {});
  assert.equal(response.id, 2);
  assert.equal(response.result!.resultType, "complete");
  assert.deepEqual(valueOf(response), [{ result: answer }]);
  assert.deepEqual([session.held, session.inFlight], [0, 0]);
  // Neither the state nor the answers are a server's of this revision to see.
  const [{ params }] = await seenBy(session, "tools/call");
  assert.deepEqual(params, { name: "asks", arguments: { requests: [FORM] } });
});

Deno.test("questions asked at once come together, and those in turn one after another", async () => {
  await using server = startServer("questions");
  const session = await server.open();
  const requests = [FORM, SAMPLE, ROOTS];
  const atOnce = call("asks", { requests });
  const asked = inputRequired(await session.call(atOnce, {}));
  assert.deepEqual(
    Object.values(asked.inputRequests).map(({ method }) => method),
    requests.map(({ method }) => method),
  );
  const roots = { roots: [{ uri: "file:///a" }] };
  const refused = { code: -1, message: "The person said no" };
  // What is left out is asked again.
  const again = inputRequired(await session.call(retry(atOnce, asked, { "3": roots }), {}));
  assert.deepEqual(Object.keys(again.inputRequests), ["1", "2"]);
  assert.notEqual(again.requestState, asked.requestState);
  const answered = retry(atOnce, again, {
    "1": { action: "decline" },
    "2": { [INPUT_ERROR]: refused },
    "9": { action: "accept" },
  });
  assert.deepEqual(valueOf(await session.call(answered, {})), [
    { result: { action: "decline" } },
    { error: refused },
    { result: roots },
  ]);

  const inTurn = call("asks", { requests: [FORM, ROOTS], inTurn: true });
  const first = inputRequired(await session.call(inTurn, {}));
  const second = inputRequired(
    await session.call(retry(inTurn, first, { "1": { action: "cancel" } }), {}),
  );
  assert.deepEqual(second.inputRequests, { "2": { ...ROOTS, params: {} } });
  const told = valueOf(await session.call(retry(inTurn, second, { "2": roots }), {}));
  assert.deepEqual(told, [{ result: { action: "cancel" } }, { result: roots }]);
});

Deno.test("questions and answers pass as they were written", async () => {
  await using server = startServer("questions");
  const session = await server.open();
  const exact = '{"message":"?","requestedSchema":{"big":12345678901234567890,"f":1.0}}';
  const paramsText =
    `{"name":"asks","arguments":{"requests":[{"method":"elicitation/create","params":` +
    `${JSON.stringify({ message: "?", unknown: { a: [1] } })}}]},"_meta":{"${CAPABILITIES}":` +
    `${JSON.stringify(ALL)}}}`;
  const request = { jsonrpc: "2.0" as const, id: 1, method: "tools/call", paramsText };
  const asked = await session.call(request, {});
  assert.ok(responseText(asked).includes('"params":{"message":"?","unknown":{"a":[1]}}'));
  const { requestState } = inputRequired(asked);
  const answered = {
    ...request,
    paramsText: `${paramsText.slice(0, -1)},"requestState":${JSON.stringify(requestState)},` +
      `"inputResponses":{"1":{"action":"accept","content":${exact}}}}`,
  };
  // The fixture reads numbers as JavaScript does: that they came is all it can say.
  const [{ result }] = valueOf(await session.call(answered, {}));
  assert.deepEqual(result, { action: "accept", content: JSON.parse(exact) });
});

Deno.test("a caller is not asked what its client did not declare", async () => {
  await using server = startServer("questions");
  const session = await server.open();
  const url = { method: "elicitation/create", params: { mode: "url", url: "https://example.com" } };
  const withTools = { ...SAMPLE, params: { ...SAMPLE.params, tools: [] } };
  const cases: [unknown, object, number][] = [
    [{}, FORM, -32601],
    [{ sampling: {}, roots: {} }, FORM, -32601],
    [{ elicitation: {} }, url, -32602],
    [{ elicitation: { url: {} } }, FORM, -32602],
    [{ elicitation: {} }, SAMPLE, -32601],
    [{ sampling: {} }, withTools, -32602],
    [{ sampling: {} }, ROOTS, -32601],
    [ALL, { method: "com.example/unheard_of" }, -32601],
  ];
  for (const [capabilities, asked, code] of cases) {
    const response = await session.call(call("asks", { requests: [asked] }, { capabilities }), {});
    const [{ error }] = valueOf(response) as { error: { code: number } }[];
    assert.equal(error.code, code, JSON.stringify([capabilities, asked]));
  }
  for (const elicitation of [{}, { applyDefaults: true }, { form: {} }]) {
    await using own = startServer("questions");
    const request = call("asks", { requests: [FORM] }, { capabilities: { elicitation } });
    const asked = await (await own.open()).call(request, {});
    assert.deepEqual(inputRequired(asked).inputRequests, { "1": FORM });
  }
});

Deno.test("a question while several calls are under way is nobody's, unless they are one caller's", async () => {
  await using server = startServer("questions");
  const session = await server.open();
  const unattributed: string[] = [];
  session.onUnattributed = (method) => unattributed.push(method);
  const mine = { [CALLER_META]: "me" }, others = { [CALLER_META]: "you" };
  for (const [first, second] of [[{}, {}], [mine, others], [mine, {}]]) {
    const waiting = session.call(call("waits", {}, { meta: first }), {});
    const asks = call("asks", { requests: [FORM] }, { meta: second });
    const [{ error }] = valueOf(await session.call(asks, {})) as { error: { message: string } }[];
    assert.match(error.message, /Several calls are under way/);
    await session.call(call("release", {}, { meta: mine }), {});
    await waiting;
  }
  // Where nobody could be asked in any case, an instance of one's own would not help.
  const unable = { capabilities: {} };
  const other = session.call(call("waits", {}, unable), {});
  const [{ error }] = valueOf(
    await session.call(call("asks", { requests: [FORM] }, unable), {}),
  ) as { error: { code: number } }[];
  assert.equal(error.code, -32601);
  await session.call(call("release"), {});
  await other;
  assert.deepEqual(unattributed, Array(3).fill("elicitation/create"));

  const waiting = session.call(call("waits", {}, { meta: mine }), {});
  const asks = call("asks", { requests: [FORM] }, { meta: mine });
  const asked = inputRequired(await session.call(asks, {}));
  const told = await session.call(retry(asks, asked, { "1": { action: "accept" } }), {});
  assert.deepEqual(valueOf(told), [{ result: { action: "accept" } }]);
  await session.call(call("release"), {});
  assert.equal(textOf(await waiting), "released");
  const [{ params }] = await seenBy(session, "tools/call");
  assert.deepEqual(Object.keys(params as object), ["name", "arguments"]);
});

Deno.test("a question that was put to a caller's other call outlives that call", async () => {
  await using server = startServer("questions");
  const session = await server.open();
  const mine = { meta: { [CALLER_META]: "me" } };
  const asks = call("asks", { requests: [FORM] }, mine), waits = call("waits", {}, mine);
  const answer = { action: "accept" };
  // It asks while both are under way, and the other is answered while its caller has the question…
  let asking = session.call(asks, {}), waiting = session.call(waits, {});
  const asked = inputRequired(await waiting);
  await session.call(call("release", {}, mine), {});
  const answered = await session.call(retry(waits, asked, { "1": answer }), {});
  assert.equal(textOf(answered), "released");
  assert.deepEqual(valueOf(await asking), [{ result: answer }]);

  // … or before it was put to anybody.
  [asking, waiting] = [session.call(asks, {}), session.call(waits, {})];
  await session.call(call("release", {}, mine), {});
  assert.equal(textOf(await waiting), "released");
  const again = inputRequired(await asking);
  assert.deepEqual(valueOf(await session.call(retry(asks, again, { "1": answer }), {})), [
    { result: answer },
  ]);

  // Not where it could be put to another caller, whose call came meanwhile.
  [asking, waiting] = [session.call(asks, {}), session.call(waits, {})];
  inputRequired(await waiting);
  const another = session.call(call("waits", {}, { meta: { [CALLER_META]: "you" } }), {});
  await session.call(call("release", {}, mine), {});
  const [{ error }] = valueOf(await asking) as { error: { message: string } }[];
  assert.match(error.message, /is over/);
  assert.equal(textOf(await another), "released");
});

Deno.test("what a call asks that was given up reaches no other caller", async () => {
  await using server = startServer("questions");
  const session = await server.open();
  const stop = new AbortController();
  const givenUp = session.call(call("waits"), { signal: stop.signal });
  await session.call(call("seen"), {});
  stop.abort(new Error("enough"));
  await assert.rejects(givenUp);
  const asks = () => session.call(call("asks", { requests: [FORM] }), {});
  const [{ error }] = valueOf(await asks()) as { error: { message: string } }[];
  assert.match(error.message, /Several calls/);
  // Answered late: it asks nothing any more.
  await session.call(call("release"), {});
  inputRequired(await asks());
});

Deno.test("after DTMA took a server over, earlier calls' questions reach nobody", async () => {
  await using server = startServer("questions");
  const session = await server.open({ isTakenOver: true });
  const response = await session.call(call("asks", { requests: [FORM] }), {});
  assert.ok((valueOf(response)[0] as { error?: unknown }).error);
});

Deno.test("prompts and resources can ask, other requests cannot", async () => {
  await using server = startServer("questions");
  const session = await server.open();
  const ask = (method: string, params: object) =>
    session.call({
      jsonrpc: "2.0",
      id: 1,
      method,
      params: { ...params, _meta: { [CAPABILITIES]: ALL } },
    }, {});
  const asked = inputRequired(await ask("prompts/get", { name: "p" }));
  const { requestState } = asked;
  const inputResponses = { "1": { roots: [{ uri: "file:///a" }] } };
  const elsewhere = await ask("prompts/get", { name: "q", requestState, inputResponses });
  assert.equal(elsewhere.error?.code, ErrorCode.indeterminate);
  const got = await ask("prompts/get", { name: "p", requestState, inputResponses });
  assert.equal(got.result!.description, "file:///a");
  const completed = await ask("completion/complete", {});
  const { values } = completed.result!.completion as { values: string[] };
  assert.deepEqual(values, ["Nothing can be asked during completion/complete"]);
});

Deno.test("a question that the server takes back at once is not asked", async () => {
  await using server = startServer("questions");
  const session = await server.open();
  const response = await session.call(call("takes_back", { request: FORM }), {});
  assert.equal(textOf(response), "took it back");
});

Deno.test("a call that ends while it is held keeps its answer for the retry", async () => {
  await using server = startServer("questions");
  const session = await server.open();
  const request = call("takes_back", { request: FORM, afterMs: 1500 });
  const asked = inputRequired(await session.call(request, {}));
  while (session.inFlight > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  const response = await session.call(retry(request, asked, { "1": { action: "accept" } }), {});
  assert.equal(textOf(response), "took it back");
  assert.equal(session.held, 0);
});

Deno.test("a retry is good once, for its own call alone", async () => {
  await using server = startServer("questions");
  const session = await server.open();
  const request = call("asks", { requests: [FORM] });
  const asked = inputRequired(await session.call(request, {}));
  const code = async (each: object) =>
    (await session.call({ ...request, ...each }, {})).error?.code;
  const other = { ...request, params: { ...request.params, name: "seen" } };
  assert.equal(await code(retry(other, asked)), ErrorCode.indeterminate);
  const forged = { ...asked, requestState: "dtma-held:guessed" };
  assert.equal(await code(retry(request, forged)), ErrorCode.indeterminate);
  const answered = retry(request, asked, { "1": { action: "cancel" } });
  assert.equal(await code(answered), undefined);
  assert.equal(await code(answered), ErrorCode.indeterminate);
});

Deno.test("a held call that nobody comes back for is cancelled", async () => {
  await using server = startServer("questions");
  const session = await server.open({ holdMs: 50 });
  const request = call("asks", { requests: [FORM] });
  const asked = inputRequired(await session.call(request, {}));
  while (session.held > 0) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.equal(session.inFlight, 0);
  const late = await session.call(retry(request, asked, { "1": { action: "accept" } }), {});
  assert.equal(late.error?.code, ErrorCode.indeterminate);
  assert.match(late.error!.message, /may have run/);
  const [{ params }] = await seenBy(session, "notifications/cancelled");
  const [{ id }] = await seenBy(session, "tools/call");
  assert.equal((params as { requestId: unknown }).requestId, id);
});

Deno.test("a caller can give up a held call, between two tries and in a retry", async () => {
  await using server = startServer("questions");
  const session = await server.open();
  const request = call("asks", { requests: [FORM] });
  const asked = inputRequired(await session.call(request, {}));
  session.cancelHeld(asked.requestState);
  session.cancelHeld(asked.requestState);
  session.cancelHeld("dtma-held:guessed");
  assert.deepEqual([session.held, session.inFlight], [0, 0]);
  assert.equal((await seenBy(session, "notifications/cancelled")).length, 1);

  const me = { meta: { [CALLER_META]: "me" } };
  await using another = startServer("questions");
  const second = await another.open();
  const again = call("asks", { requests: [FORM, FORM], inTurn: true }, me);
  const before = inputRequired(await second.call(again, {}));
  const stop = new AbortController();
  const retried = second.call(retry(again, before), { signal: stop.signal });
  stop.abort(new Error("enough"));
  await assert.rejects(retried, { message: "enough" });
  assert.deepEqual([second.held, second.inFlight], [0, 0]);
  assert.equal((await seenBy(second, "notifications/cancelled")).length, 1);
});

Deno.test("held calls end with their session, and may have run", async () => {
  await using server = startServer("questions");
  const session = await server.open();
  const request = call("asks", { requests: [FORM] });
  const asked = inputRequired(await session.call(request, {}));
  session.close("The server is being changed");
  await session.closed;
  assert.equal(session.held, 0);
  const { error } = await session.call(retry(request, asked), {});
  assert.equal(error?.code, ErrorCode.indeterminate);
  await using modern = startServer("modern");
  const next = await modern.open();
  assert.equal((await next.call(retry(request, asked), {})).error?.code, ErrorCode.indeterminate);
});

Deno.test("what a server of 2026-07-28 needs passes as it is, and so do its caller's answers", async () => {
  await using server = startServer("modern");
  const session = await server.open();
  const request = call("asks");
  const response = await session.call(request, {});
  const { requestState } = inputRequired(response);
  assert.equal(
    responseText(response),
    '{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"k":{"method":' +
      '"elicitation/create","params":{"f":1.0}}},"requestState":"theirs",' +
      '"more":12345678901234567890}}',
  );
  const paramsText = `{"name":"asks","requestState":${JSON.stringify(requestState)},` +
    `"inputResponses":{"k":{"action":"accept","content":{"f":2.0}}},"_meta":{}}`;
  const line = textOf(await session.call({ ...request, paramsText }, {}));
  assert.ok(
    line.includes('"requestState":"theirs","inputResponses":{"k":{"action":"accept",'),
    line,
  );
  assert.ok(line.includes('"content":{"f":2.0}'), line);
});

Deno.test("calls are held, and asked, only so many", async () => {
  await using server = startServer("questions");
  const session = await server.open();
  const me = { meta: { [CALLER_META]: "me" } };
  const many = call("asks", { requests: Array(20).fill(FORM) }, me);
  const asked = inputRequired(await session.call(many, {}));
  assert.equal(Object.keys(asked.inputRequests).length, 16);
  session.cancelHeld(asked.requestState);
  const one = () => session.call(call("asks", { requests: [FORM] }, me), {});
  for (const response of await Promise.all(Array.from({ length: 32 }, one))) {
    assert.deepEqual(Object.keys(inputRequired(response).inputRequests), ["1"]);
  }
  const [{ error }] = valueOf(await one()) as { error: { message: string } }[];
  assert.match(error.message, /32 calls wait/);
});

Deno.test("a call that wants its caller at a URL first is made anew by the retry", async () => {
  await using server = startServer("questions");
  const session = await server.open();
  const request = call("signs_in");
  const { inputRequests, ...rest } = inputRequired(await session.call(request, {}));
  const own = { code: -32042, message: "Sign in first" };
  const data = {
    elicitations: [{ elicitationId: "e", url: "https://example.com/in", message: "In" }],
  };
  assert.deepEqual(rest, {
    resultType: "input_required",
    _meta: { [INPUT_ERROR]: { ...own, data } },
  });
  assert.deepEqual(Object.values(inputRequests), [{
    method: "elicitation/create",
    params: { mode: "url", elicitationId: "e", url: "https://example.com/in", message: "In" },
  }]);
  const params = { ...request.params, inputResponses: { "1": { action: "accept" } } };
  assert.equal(textOf(await session.call({ ...request, params }, {})), "signed in");
  const sent = await seenBy(session, "tools/call");
  assert.deepEqual(sent[1].params as object, { name: "signs_in", arguments: {} });

  await using plain = startServer("questions");
  const cannot = call("signs_in", {}, { capabilities: { elicitation: {} } });
  assert.equal((await (await plain.open()).call(cannot, {})).error?.code, -32042);
});

Deno.test("that somebody was at a URL is told to who was asked to, and to nobody else", async () => {
  const url = { mode: "url", elicitationId: "e", url: "https://example.com/in", message: "In" };
  for (const early of [false, true]) {
    await using server = startServer("questions");
    const session = await server.open();
    const requests = [{ method: "elicitation/create", params: url }];
    const request = call("asks", { requests, completes: "e", early });
    const told: JsonRpcNotification[] = [], others: JsonRpcNotification[] = [];
    const asked = inputRequired(await session.call(request, {}));
    const other = session.call(call("waits"), { onNotification: (each) => others.push(each) });
    if (early) await new Promise((resolve) => setTimeout(resolve, 200));
    const again = retry(request, asked, { "1": { action: "accept" } });
    await session.call(again, { onNotification: (each) => told.push(each) });
    await session.call(call("release"), {});
    await other;
    assert.deepEqual(told.map(({ method, params }) => ({ method, params })), [
      { method: "notifications/elicitation/complete", params: { elicitationId: "e" } },
    ]);
    assert.deepEqual(others, []);
  }
});

Deno.test("server-everything asks for forms, URLs, samples and roots", async () => {
  await using server = startServer(await serverEverything(), { args: ["stdio"] });
  const session = await server.open();
  const ask = async (name: string, answer: unknown, args: Record<string, unknown> = {}) => {
    const request = call(name, args);
    const asked = inputRequired(await session.call(request, {}));
    const keys = Object.keys(asked.inputRequests);
    const answers = Object.fromEntries(keys.map((key) => [key, answer]));
    const response = await session.call(retry(request, asked, answers), {});
    return { asked: Object.values(asked.inputRequests)[0], text: JSON.stringify(response.result) };
  };
  const sampled = await ask("trigger-sampling-request", {
    role: "assistant",
    content: { type: "text", text: "Paris" },
    model: "none",
  }, { prompt: "The capital of France?" });
  assert.equal(sampled.asked.method, "sampling/createMessage");
  assert.match(sampled.text, /Paris/);
  const form = await ask("trigger-elicitation-request", { action: "decline" });
  assert.equal(form.asked.method, "elicitation/create");
  assert.match(form.text, /declined/);
  const url = await ask("trigger-url-elicitation", { action: "accept" }, {
    url: "https://example.com/",
  });
  assert.equal(url.asked.params.mode, "url");
  assert.match(url.text, /completed the URL elicitation/);
  const roots = await ask("get-roots-list", { roots: [{ uri: "file:///work", name: "Work" }] });
  assert.equal(roots.asked.method, "roots/list");
  assert.match(roots.text, /file:\/\/\/work/);
});
