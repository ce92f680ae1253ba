/** The adapter of REST APIs as a process of its own, before a real HTTP server. */
import assert from "node:assert/strict";
import type { ApiCredential, ApiPlan, ApiTool } from "../../dtma/protocol.ts";
import { openSession } from "../../dtma/session.ts";
import { readApiDocument } from "../../models/openapi_document.ts";
import { listOperations, toolsOf } from "../../models/openapi_operations.ts";
import { freePort } from "../free_port.ts";
import { toolCall } from "./stdio_server.ts";

const ADAPTER = new URL("../../dtma/api_adapter/main.mts", import.meta.url).pathname;

interface Seen {
  method: string;
  /** As it came, with the query. */
  path: string;
  headers: Headers;
  body: Uint8Array<ArrayBuffer>;
}

/** An API that answers as told, and keeps what it was asked. */
function api(answer: (request: Seen) => Response | Promise<Response> = () => Response.json({})) {
  const seen: Seen[] = [];
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const { pathname, search } = new URL(request.url);
    const { method, headers } = request;
    const body = new Uint8Array(await request.arrayBuffer());
    seen.push({ method, path: pathname + search, headers, body });
    return await answer(seen.at(-1)!);
  });
  return {
    seen,
    url: `http://127.0.0.1:${server.addr.port}`,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

/** The tools of all operations of a document with these paths. */
function toolsFor(paths: object, components: object = {}): ApiTool[] {
  const { document } = readApiDocument(
    JSON.stringify({ openapi: "3.1.0", info: { title: "T", version: "1" }, paths, components }),
  );
  const operations = listOperations(document);
  assert.deepEqual(operations.flatMap(({ obstacle }) => obstacle ?? []), []);
  return toolsOf(document, operations.map(({ key }) => key), { tellsShape: true });
}

async function startAdapter(
  plan: Pick<ApiPlan, "url" | "tools"> & { credentials?: ApiCredential[] },
  env: Record<string, string> = {},
) {
  const file = await Deno.makeTempFile({ suffix: ".json" });
  const whole: ApiPlan = { version: 1, title: "T", apiVersion: "1", credentials: [], ...plan };
  await Deno.writeTextFile(file, JSON.stringify(whole));
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-lock", "-A", ADAPTER, file],
    env,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const logged: string[] = [];
  const reading = (async () => {
    for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) logged.push(text);
  })();
  const session = await openSession(child, { handshakeTimeoutMs: 60_000, log: () => {} });
  return {
    session,
    logged,
    async call(name: string, args: Record<string, unknown> = {}) {
      const answer = await session.call(toolCall(name, args), {});
      assert.ok("result" in answer, JSON.stringify(answer));
      return answer.result as {
        content: {
          type: string;
          text: string;
          data?: string;
          mimeType?: string;
          resource?: object;
        }[];
        structuredContent?: unknown;
        isError?: boolean;
      };
    },
    async [Symbol.asyncDispose]() {
      session.close("done");
      child.kill("SIGKILL");
      await child.status;
      await reading;
      await child.stdin.close().catch(() => {});
      await child.stdout.cancel().catch(() => {});
      await Deno.remove(file);
    },
  };
}

/** What an adapter writes, as it writes it, to requests that are given one after another. */
async function rawAnswers(plan: Pick<ApiPlan, "url" | "tools">, requests: object[]) {
  const file = await Deno.makeTempFile({ suffix: ".json" });
  const whole: ApiPlan = { version: 1, title: "T", apiVersion: "1", credentials: [], ...plan };
  await Deno.writeTextFile(file, JSON.stringify(whole));
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-lock", "-A", ADAPTER, file],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const lines: string[] = [];
  const writer = child.stdin.getWriter();
  for (const request of requests) {
    await writer.write(new TextEncoder().encode(`${JSON.stringify(request)}\n`));
  }
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    lines.push(...text.split("\n").filter(Boolean));
    if (lines.length === requests.length) break;
  }
  await writer.close();
  await child.status;
  await Deno.remove(file);
  return lines;
}

const LIST = [3, 4], OBJECT = { R: 100, G: 200 };

Deno.test("the adapter sends parameters in every style of OpenAPI", async () => {
  // From the table of OpenAPI 3.1.1, "Style Examples", and RFC 6570.
  const cases: [place: string, style: string, explode: boolean, value: unknown, sent: string][] = [
    ["path", "simple", false, LIST, "/p/3,4"],
    ["path", "simple", true, OBJECT, "/p/R=100,G=200"],
    ["path", "simple", false, OBJECT, "/p/R,100,G,200"],
    ["path", "simple", false, "a/b?c#d%2e é", "/p/a%2Fb%3Fc%23d%252e%20%C3%A9"],
    ["path", "label", false, LIST, "/p/.3,4"],
    ["path", "label", true, LIST, "/p/.3.4"],
    ["path", "label", true, OBJECT, "/p/.R=100.G=200"],
    ["path", "matrix", false, "x", "/p/;v=x"],
    ["path", "matrix", false, LIST, "/p/;v=3,4"],
    ["path", "matrix", true, LIST, "/p/;v=3;v=4"],
    ["path", "matrix", true, OBJECT, "/p/;R=100;G=200"],
    ["path", "matrix", false, OBJECT, "/p/;v=R,100,G,200"],
    ["query", "form", true, "a&b=c", "/q?v=a%26b%3Dc"],
    ["query", "form", true, LIST, "/q?v=3&v=4"],
    ["query", "form", false, ["a,b", "c"], "/q?v=a%2Cb,c"],
    ["query", "form", true, OBJECT, "/q?R=100&G=200"],
    ["query", "form", false, OBJECT, "/q?v=R,100,G,200"],
    ["query", "form", true, true, "/q?v=true"],
    ["query", "form", false, [], "/q"],
    ["query", "spaceDelimited", false, LIST, "/q?v=3%204"],
    ["query", "pipeDelimited", false, LIST, "/q?v=3%7C4"],
    [
      "query",
      "deepObject",
      true,
      { a: 1, b: { c: [2, 3] } },
      "/q?v%5Ba%5D=1&v%5Bb%5D%5Bc%5D%5B0%5D=2&v%5Bb%5D%5Bc%5D%5B1%5D=3",
    ],
  ];
  const operations = cases.map(([place, style, explode], n) => [
    place === "path" ? `/c${n}/p/{v}` : `/c${n}/q`,
    {
      get: {
        operationId: `c${n}`,
        parameters: [{
          name: "v",
          in: place,
          style,
          explode,
          required: place === "path",
          schema: {},
        }],
      },
    },
  ]);
  const tools = toolsFor({
    ...Object.fromEntries(operations),
    "/more": {
      get: {
        operationId: "more",
        parameters: [
          { name: "reserved", in: "query", allowReserved: true, schema: {} },
          { name: "json", in: "query", content: { "application/json": { schema: {} } } },
          { name: "X-List", in: "header", schema: {} },
          { name: "X-Object", in: "header", explode: true, schema: {} },
          { name: "crumb", in: "cookie", schema: {} },
        ],
      },
    },
  });
  await using target = api();
  await using adapter = await startAdapter({ url: target.url, tools });
  for (const [n, [place, style, explode, value, sent]] of cases.entries()) {
    await adapter.call(`c${n}`, { v: value });
    assert.equal(target.seen.at(-1)!.path, `/c${n}${sent}`, `${place} ${style} ${explode}`);
  }
  await adapter.call("more", {
    reserved: "a/b:c&d=e#f",
    json: { a: [1] },
    "X-List": LIST,
    "X-Object": OBJECT,
    crumb: "a;b",
  });
  const { path, headers } = target.seen.at(-1)!;
  assert.equal(path, "/more?reserved=a/b:c%26d%3De%23f&json=%7B%22a%22%3A%5B1%5D%7D");
  assert.equal(headers.get("x-list"), "3,4");
  assert.equal(headers.get("x-object"), "R=100,G=200");
  assert.equal(headers.get("cookie"), "crumb=a%3Bb");
});

Deno.test("what an argument must not do is told, and nothing is sent", async () => {
  const tools = toolsFor({
    "/files/{name}/raw": {
      get: {
        operationId: "read",
        parameters: [
          { name: "name", in: "path", required: true, schema: {} },
          { name: "X-Note", in: "header", schema: {} },
          { name: "must", in: "query", required: true, schema: {} },
        ],
      },
    },
    "/send": {
      post: {
        operationId: "send",
        requestBody: { required: true, content: { "application/octet-stream": {} } },
      },
    },
  });
  await using target = api();
  await using adapter = await startAdapter({ url: `${target.url}/base`, tools });
  const refused: [string, Record<string, unknown>, RegExp][] = [
    ["read", { name: "..", must: 1 }, /name must not be \.\./],
    ["read", { name: ".", must: 1 }, /name must not be \./],
    ["read", { name: "", must: 1 }, /name must not be empty/],
    ["read", { must: 1 }, /name is needed/],
    ["read", { name: "a" }, /must is needed/],
    ["read", { name: "a", must: 1, "X-Note": "a\r\nX-Evil: 1" }, /X-Note must be one line/],
    ["read", { name: "a", must: 1, "X-Note": "\u{1F600}" }, /X-Note must be one line/],
    ["read", { name: "a", must: 1, "__proto__": 1, "X-Note": ["a", "b\n"] }, /X-Note must be/],
    ["send", {}, /body is needed/],
    ["send", { body: "no base64!" }, /base64/],
  ];
  for (const [name, args, why] of refused) {
    const { isError, content } = await adapter.call(name, args);
    assert.equal(isError, true);
    assert.match(content[0].text, why);
  }
  assert.equal(target.seen.length, 0);
  // What looks like a step and is none, and what would be a path of its own.
  for (const [name, sent] of [["...", "..."], ["%2e%2e", "%252e%252e"], ["../x", "..%2Fx"]]) {
    await adapter.call("read", { name, must: 1 });
    assert.equal(target.seen.at(-1)!.path, `/base/files/${sent}/raw?must=1`);
  }
});

Deno.test("bodies go as JSON, forms, files, text and bytes", async () => {
  const body = (type: string, schema: object, encoding?: object) => ({
    requestBody: { required: true, content: { [type]: { schema, encoding } } },
  });
  const tools = toolsFor({
    "/json": { post: { operationId: "json", ...body("application/json", {}) } },
    "/form": {
      post: {
        operationId: "form",
        ...body("application/x-www-form-urlencoded", {
          type: "object",
          properties: { name: {}, list: {}, deep: {}, object: {} },
        }, { deep: { style: "deepObject", explode: true } }),
      },
    },
    "/multipart": {
      post: {
        operationId: "multipart",
        ...body("multipart/form-data", {
          type: "object",
          properties: {
            file: { type: "string", format: "binary" },
            more: { type: "array", items: { type: "string", format: "binary" } },
            title: { type: "string" },
            about: { type: "object" },
          },
        }, { file: { contentType: "image/png" } }),
      },
    },
    "/text": { post: { operationId: "text", ...body("text/plain", { type: "string" }) } },
    "/bytes": { put: { operationId: "bytes", ...body("image/*", {}) } },
  });
  await using target = api();
  await using adapter = await startAdapter({ url: target.url, tools });
  const sent = async (name: string, body: unknown) => {
    await adapter.call(name, { body });
    const { headers, body: bytes } = target.seen.at(-1)!;
    return { type: headers.get("content-type")!, bytes, text: new TextDecoder().decode(bytes) };
  };
  assert.deepEqual(
    await sent("json", { a: [1, null, "é"] }).then(({ type, text }) => [type, text]),
    ["application/json", '{"a":[1,null,"é"]}'],
  );
  assert.deepEqual(
    await sent("form", { name: "a b&c", list: [1, 2], deep: { x: { y: 1 } }, object: { z: 1 } })
      .then(({ type, text }) => [type, text]),
    [
      "application/x-www-form-urlencoded",
      "name=a%20b%26c&list=1&list=2&deep%5Bx%5D%5By%5D=1&object=%7B%22z%22%3A1%7D",
    ],
  );
  const png = new Uint8Array([0x89, 0x50, 0, 255]);
  const multipart = await sent("multipart", {
    file: { data: png.toBase64(), filename: 'a"\r\nX: 1.png' },
    more: [{ data: btoa("one"), filename: "one.txt", mediaType: "text/plain" }, {
      data: btoa("two"),
    }],
    title: "A title",
    about: { light: "dim" },
  });
  assert.match(multipart.type, /^multipart\/form-data; boundary=/);
  const form = await new Response(multipart.bytes, {
    headers: { "content-type": multipart.type },
  }).formData();
  const file = form.get("file") as File;
  assert.deepEqual(new Uint8Array(await file.arrayBuffer()), png);
  assert.equal(file.type, "image/png");
  assert.ok(!/^X: 1/m.test(multipart.text), "a file's name begins no header");
  const more = form.getAll("more") as File[];
  assert.deepEqual(await Promise.all(more.map((each) => each.text())), ["one", "two"]);
  assert.deepEqual(more.map(({ name }) => name), ["one.txt", "file"]);
  assert.equal(form.get("title"), "A title");
  assert.equal(await (form.get("about") as File).text(), '{"light":"dim"}');
  assert.deepEqual(
    await sent("text", "hello").then(({ type, text }) => [type, text]),
    ["text/plain", "hello"],
  );
  assert.deepEqual((await sent("bytes", png.toBase64())).bytes, png);
});

Deno.test("answers of every kind become results, and numbers keep their digits", async () => {
  const answers: Record<string, () => Response> = {
    object: () => new Response('{"n": 12345678901234567890,\r\n "a": "x"}', JSON_TYPE),
    list: () => new Response("[1, 2]", { headers: { "content-type": "application/problem+json" } }),
    text: () => new Response("plain"),
    latin: () =>
      new Response(new Uint8Array([0xe9]), {
        headers: { "content-type": "text/plain; charset=iso-8859-1" },
      }),
    none: () => new Response(null, { status: 204 }),
    paged: () => Response.json([], { headers: { link: '</paged?page=2>; rel="next"' } }),
    png: () => new Response(new Uint8Array([1, 2]), { headers: { "content-type": "image/png" } }),
    wav: () => new Response(new Uint8Array([3]), { headers: { "content-type": "audio/wav" } }),
    zip: () =>
      new Response(new Uint8Array([0x50, 0x4b]), {
        headers: { "content-type": "application/zip" },
      }),
    broken: () => new Response("{oops", JSON_TYPE),
    missing: () => Response.json({ message: "no such pet" }, { status: 404 }),
    busy: () => new Response("slow down", { status: 429, headers: { "retry-after": "7" } }),
    denied: () => new Response("who are you", { status: 401 }),
    huge: () => new Response("x".repeat(5 * 1024 * 1024)),
    hugeError: () => new Response("y".repeat(5 * 1024 * 1024), { status: 500 }),
    twice: () => Response.json({ text: "z".repeat(2.5 * 1024 * 1024) }),
  };
  const JSON_TYPE = { headers: { "content-type": "application/json; charset=utf-8" } };
  const tools = toolsFor(Object.fromEntries(
    Object.keys(answers).map((name) => [`/${name}`, { get: { operationId: name } }]),
  ));
  await using target = api(({ path }) => answers[path.slice(1)]());
  await using adapter = await startAdapter({ url: target.url, tools });
  const [line] = await rawAnswers({ url: target.url, tools }, [toolCall("object")]);
  assert.ok(line.includes('"structuredContent":{"n": 12345678901234567890,  "a": "x"}'), line);
  const { content: [list], structuredContent } = await adapter.call("list");
  assert.deepEqual([list.text, structuredContent], ["[1, 2]", [1, 2]]);
  assert.deepEqual((await adapter.call("text")).content, [{ type: "text", text: "plain" }]);
  assert.equal((await adapter.call("latin")).content[0].text, "é");
  assert.match((await adapter.call("none")).content[0].text, /^Done: 204/);
  assert.deepEqual((await adapter.call("paged")).content.map(({ text }) => text), [
    "[]",
    'link: </paged?page=2>; rel="next"',
  ]);
  assert.deepEqual((await adapter.call("png")).content, [
    { type: "image", data: "AQI=", mimeType: "image/png" },
  ]);
  assert.equal((await adapter.call("wav")).content[0].type, "audio");
  assert.deepEqual((await adapter.call("zip")).content, [{
    type: "resource",
    resource: { uri: "mooring-api:/zip", mimeType: "application/zip", blob: "UEs=" },
  }]);
  // Neither JSON nor text, whatever it calls itself.
  assert.equal((await adapter.call("broken")).content[0].type, "resource");
  const failed = async (name: string) => {
    const { isError, content, structuredContent } = await adapter.call(name);
    assert.deepEqual([isError, structuredContent], [true, undefined]);
    return content[0].text;
  };
  assert.match(
    await failed("missing"),
    /^GET \/missing answered 404 Not Found\.\n\{"message":"no such pet"\}/,
  );
  assert.match(await failed("busy"), /429.*Try again after 7 s\.\nslow down$/);
  assert.match(await failed("denied"), /401.*wants credentials/);
  assert.match(await failed("huge"), /more than 3 MiB.*carried out/);
  const error = await failed("hugeError");
  assert.ok(error.length < 40_000 && error.endsWith("…"));
  const large = await adapter.call("twice");
  assert.match(large.content[0].text, /see structuredContent/);
  assert.equal((large.structuredContent as { text: string }).text.length, 2.5 * 1024 * 1024);
});

Deno.test("a request that does not hold is an error, and the next one is served", async () => {
  const tools = toolsFor({ "/a": { get: { operationId: "a" } } });
  await using target = api();
  const _meta = { "io.modelcontextprotocol/protocolVersion": "2026-07-28" };
  const request = (id: number, method: string, params?: unknown) => ({
    jsonrpc: "2.0",
    id,
    method,
    params,
  });
  const lines = await rawAnswers({ url: target.url, tools }, [
    request(1, "initialize", { protocolVersion: "2025-11-25" }),
    request(2, "tools/list", null),
    request(3, "tools/call", { name: "none", _meta }),
    request(4, "tools/call", { name: "a", arguments: [], _meta }),
    request(5, "nonsense", { _meta }),
    request(6, "tools/call", { name: "a", arguments: null, _meta }),
  ]);
  const errors = lines.map((line) => JSON.parse(line)).toSorted((a, b) => a.id - b.id)
    .map(({ error }) => error?.code);
  assert.deepEqual(errors, [-32022, -32022, -32602, -32602, -32601, undefined]);
  assert.equal(target.seen.length, 1);
});

Deno.test("numbers beyond JavaScript's reach the API as they were given", async () => {
  const tools = toolsFor({
    "/n/{id}": {
      post: {
        operationId: "n",
        parameters: [{ name: "id", in: "path", required: true, schema: { type: "integer" } }],
        requestBody: { content: { "application/json": { schema: {} } } },
      },
    },
  });
  await using target = api();
  await using adapter = await startAdapter({ url: target.url, tools });
  const big = (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(
    "12345678901234567890",
  );
  await adapter.call("n", { id: big, body: { n: big, half: 0.5 } });
  const [{ path, body }] = target.seen;
  assert.equal(path, "/n/12345678901234567890");
  assert.equal(new TextDecoder().decode(body), '{"n":12345678901234567890,"half":0.5}');
});

Deno.test("a line separator of Unicode in an argument ends no line", async () => {
  const tools = toolsFor({
    "/a": {
      post: { operationId: "a", requestBody: { content: { "application/json": { schema: {} } } } },
    },
  });
  await using target = api();
  const _meta = { "io.modelcontextprotocol/protocolVersion": "2026-07-28" };
  const params = { name: "a", arguments: { body: "one\u2028two\u2029three" }, _meta };
  const call = { jsonrpc: "2.0", id: 1, method: "tools/call", params };
  await rawAnswers({ url: target.url, tools }, [call]);
  assert.equal(new TextDecoder().decode(target.seen[0].body), '"one\u2028two\u2029three"');
});

Deno.test("an answer that is not as its document says is told, with the answer", async () => {
  const schema = {
    type: "object",
    required: ["id"],
    properties: { id: { type: "integer" }, tags: { type: "array", items: { type: "string" } } },
  };
  const tools = toolsFor({
    "/a": {
      post: {
        operationId: "a",
        responses: { 201: { content: { "application/json": { schema } } } },
      },
    },
  });
  let answer: unknown = {};
  await using target = api(() => Response.json(answer, { status: 201 }));
  await using adapter = await startAdapter({ url: target.url, tools });
  for (answer of [{ id: 1, more: true }, { tags: null }, { id: null, tags: [null, "a"] }]) {
    const { structuredContent, isError } = await adapter.call("a");
    assert.deepEqual([structuredContent, isError], [answer, undefined]);
  }
  for (answer of [{ id: "1" }, { tags: [1] }, []]) {
    const { isError, content } = await adapter.call("a");
    assert.equal(isError, true);
    assert.match(
      content[0].text,
      /answered 201 .*carried out, but the body.* is not as its OpenAPI/,
    );
    assert.ok(content[0].text.endsWith(JSON.stringify(answer)));
  }
});

Deno.test("credentials go where they belong, and never to another origin", async () => {
  const tools = toolsFor({
    "/a": { get: { operationId: "a" } },
    "/same": { get: { operationId: "same" } },
    "/other": { get: { operationId: "other" } },
    "/post": {
      post: { operationId: "post", requestBody: { content: { "application/json": {} } } },
    },
    "/see": { post: { operationId: "see", requestBody: { content: { "application/json": {} } } } },
  });
  await using stranger = api();
  await using target = api(({ path }) => {
    const to = path.startsWith("/same") || path.startsWith("/see") ? "/a" : `${stranger.url}/b`;
    const status = path.startsWith("/see") ? 303 : path.startsWith("/post") ? 307 : 302;
    if (path.startsWith("/a")) return Response.json({ fine: true });
    return new Response(null, { status, headers: { location: to } });
  });
  const credentials: ApiCredential[] = [
    { place: "header", name: "X-Key", scheme: "plain", variables: ["KEY"] },
    { place: "query", name: "api key", scheme: "plain", variables: ["QUERY"] },
    { place: "cookie", name: "session", scheme: "plain", variables: ["COOKIE"] },
    { place: "header", name: "Authorization", scheme: "basic", variables: ["USER", "PASSWORD"] },
    { place: "header", name: "X-Unused", scheme: "plain", variables: ["NONE"] },
  ];
  const env = { KEY: "key", QUERY: "qu&ry", COOKIE: "co;kie", USER: "bea", PASSWORD: "pass:word" };
  await using adapter = await startAdapter({ url: target.url, tools, credentials }, env);
  await adapter.call("a");
  const { headers, path } = target.seen[0];
  assert.equal(headers.get("x-key"), "key");
  assert.equal(headers.get("cookie"), "session=co%3Bkie");
  assert.equal(headers.get("authorization"), `Basic ${btoa("bea:pass:word")}`);
  assert.equal(headers.get("x-unused"), null);
  assert.equal(path, "/a?api%20key=qu%26ry");

  assert.deepEqual((await adapter.call("same")).structuredContent, { fine: true });
  assert.equal(target.seen.at(-1)!.headers.get("x-key"), "key");
  assert.deepEqual((await adapter.call("see", { body: {} })).structuredContent, { fine: true });
  assert.equal(target.seen.at(-1)!.method, "GET");

  await adapter.call("other");
  const there = stranger.seen[0];
  assert.equal(there.path, "/b");
  for (const name of ["x-key", "cookie", "authorization"]) {
    assert.equal(there.headers.get(name), null, name);
  }
  // What writes is not sent to another place than the one approved.
  const { isError, content } = await adapter.call("post", { body: {} });
  assert.deepEqual([isError, stranger.seen.length], [true, 1]);
  assert.match(content[0].text, /307 .*leads to .*not followed/);
  for (const secret of Object.values(env)) {
    assert.ok(!adapter.logged.join().includes(secret), "no secret is in the log");
  }

  await using bearer = await startAdapter({
    url: target.url,
    tools,
    credentials: [{ place: "header", name: "Authorization", scheme: "bearer", variables: ["T"] }],
  }, { T: "Bearer token" });
  await bearer.call("a");
  assert.equal(target.seen.at(-1)!.headers.get("authorization"), "Bearer token");
});

Deno.test("a call that is cancelled ends its request, and one without an answer is told", async () => {
  const tools = toolsFor({ "/slow": { get: { operationId: "slow" } } });
  const ended = Promise.withResolvers<void>(), begun = Promise.withResolvers<void>();
  await using target = api(() =>
    new Response(
      new ReadableStream({
        start: () => begun.resolve(),
        cancel: () => ended.resolve(),
      }),
    )
  );
  await using adapter = await startAdapter({ url: target.url, tools });
  const abort = new AbortController();
  const call = adapter.session.call(toolCall("slow", {}), { signal: abort.signal });
  call.catch(() => {});
  await begun.promise;
  abort.abort();
  await ended.promise;

  await using lonely = await startAdapter({ url: `http://127.0.0.1:${freePort()}`, tools });
  const { isError, content } = await lonely.call("slow");
  assert.equal(isError, true);
  assert.match(content[0].text, /^GET \/slow got no answer: .*Whether the API took the request/);
});
