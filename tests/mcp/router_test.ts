import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { ErrorCode, generateSigningKey } from "../../dtma/protocol.ts";
import { type CallOptions, callServer } from "../../mcp/router.ts";
import { freePort } from "../free_port.ts";

const key = await generateSigningKey();
const serverId = "01890000-0000-7000-8000-000000000001";
const REQUEST = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}`;
const RESULT = `{"content":[{"type":"text","text":"Grüße 世界 🧭"}],"n":9007199254740993}`;
const RESPONSE = `{"jsonrpc":"2.0","id":1,"result":${RESULT}}`;
const ENCODED = new TextEncoder().encode(RESPONSE);
const progress = (n: number) =>
  `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":${n},"message":"– ${n} –"}}`;

/** A toolbox of another kind: what it answers is up to the test. */
function toolbox(handler: (request: Request) => Response | Promise<Response>) {
  const http = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    onListen: () => {},
    onError: () => new Response(null, { status: 500 }),
  }, handler);
  const address = `http://127.0.0.1:${http.addr.port}`;
  return {
    ask: (options?: CallOptions) => ask(address, options),
    [Symbol.asyncDispose]: () => http.shutdown(),
  };
}

/** Speaks raw TCP: reads the request, then does what the test says. */
function rawToolbox(answer: (connection: Deno.TcpConn) => Promise<void>) {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const serving = (async () => {
    for await (const connection of listener) {
      let read = "";
      const bytes = new Uint8Array(65536);
      while (!read.includes(REQUEST)) {
        const count = await connection.read(bytes);
        if (count === null) break;
        read += new TextDecoder().decode(bytes.subarray(0, count));
      }
      await answer(connection).catch(() => {});
      connection.close();
    }
  })();
  return {
    ask: () => ask(`http://127.0.0.1:${listener.addr.port}`),
    async [Symbol.asyncDispose]() {
      listener.close();
      await serving;
    },
  };
}

async function ask(address: string, options?: CallOptions) {
  const deps = { appSigningKey: key, links: null };
  const target = { toolboxId: "t", reach: "direct" as const, address, serverId, instance: null };
  const answer = await callServer(deps, target, REQUEST, options);
  return { ...answer, value: JSON.parse(answer.text) };
}

function assertFails(answer: Awaited<ReturnType<typeof ask>>, code: number, words: RegExp) {
  assert.equal(answer.kind, "error", answer.text.slice(0, 500));
  assert.equal(answer.value.code, code, answer.text.slice(0, 500));
  assert.match(answer.value.message, words);
}

const json = (body: BodyInit | null, status = 200) =>
  new Response(body, { status, headers: { "content-type": "application/json" } });
const events = (body: BodyInit) =>
  new Response(body, { headers: { "content-type": "text/event-stream; charset=utf-8" } });
const streamed = (chunks: Uint8Array[]) =>
  new ReadableStream<Uint8Array>({
    async start(controller) {
      for (const chunk of chunks) {
        controller.enqueue(chunk);
        await new Promise((resolve) => setTimeout(resolve));
      }
      controller.close();
    },
  });

Deno.test("callServer sends a call once when a kept connection breaks after it", async () => {
  let requests = 0;
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const serving = (async () => {
    for await (const connection of listener) await serveTwo(connection).catch(() => {});
  })();
  async function serveTwo(connection: Deno.TcpConn) {
    const bytes = new Uint8Array(65536);
    let read = "";
    for (let served = 0; served < 2;) {
      const count = await connection.read(bytes);
      if (count === null) break;
      read += new TextDecoder().decode(bytes.subarray(0, count));
      if (!read.includes(REQUEST)) continue;
      read = "";
      requests++;
      if (++served === 2) break;
      const head = `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n`;
      const answer = `${head}content-length: ${ENCODED.length}\r\n\r\n`;
      await connection.write(new TextEncoder().encode(answer));
      await connection.write(ENCODED);
    }
    connection.close();
  }
  const address = `http://127.0.0.1:${listener.addr.port}`;
  assert.equal((await ask(address)).kind, "result");
  assertFails(await ask(address), ErrorCode.indeterminate, /may have run/);
  assert.equal(requests, 2);
  listener.close();
  await serving;
});

Deno.test("callServer returns the text of a result and of an error", async () => {
  let response = RESPONSE;
  await using box = toolbox(() => json(response));
  assert.deepEqual(await box.ask(), { kind: "result", text: RESULT, value: JSON.parse(RESULT) });
  response = ` {"error" : {"code":-5,"message":"no","data":1e400} ,"id":1,"jsonrpc":"2.0"}`;
  assert.equal((await box.ask()).text, `{"code":-5,"message":"no","data":1e400}`);
  response = `{"jsonrpc":"2.0","id":1,"result":{},"error":null}`;
  assert.equal((await box.ask()).text, "{}");
});

Deno.test("callServer says serverUnavailable when no connection is made", async () => {
  const refused = await ask(`http://127.0.0.1:${freePort()}`);
  assertFails(refused, ErrorCode.serverUnavailable, /was not made/);
  const nowhere = await ask("https://nowhere.invalid");
  assertFails(nowhere, ErrorCode.serverUnavailable, /was not made/);
});

Deno.test("callServer says serverUnavailable when TLS fails, before anything was sent", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const serving = (async () => {
    for await (const connection of listener) {
      await connection.read(new Uint8Array(65536)).catch(() => {});
      await connection.write(new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n\r\n"));
      connection.close();
    }
  })();
  const answer = await ask(`https://127.0.0.1:${listener.addr.port}`);
  assertFails(answer, ErrorCode.serverUnavailable, /was not made/);
  listener.close();
  await serving;
});

Deno.test("callServer says indeterminate when the connection is cut after the request", async () => {
  await using box = rawToolbox(() => Promise.resolve());
  assertFails(await box.ask(), ErrorCode.indeterminate, /may have run/);
});

for (
  const [what, head] of [
    ["a body", "content-type: application/json\r\ncontent-length: 999\r\n"],
    ["a chunked body", "content-type: application/json\r\ntransfer-encoding: chunked\r\n"],
    ["a stream", "content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"],
  ]
) {
  Deno.test(`callServer says indeterminate when ${what} is cut off`, async () => {
    await using box = rawToolbox(async (connection) => {
      const part = head.includes("chunked") ? `10\r\ndata: {"jsonrpc"\r\n` : `{"jsonrpc":"2.0",`;
      await connection.write(new TextEncoder().encode(`HTTP/1.1 200 OK\r\n${head}\r\n${part}`));
    });
    assertFails(await box.ask(), ErrorCode.indeterminate, /may have run/);
  });
}

Deno.test("callServer says indeterminate for an answer that is none", async () => {
  let response = () => json("");
  await using box = toolbox(() => response());
  const bodies = [
    "",
    "<html>hello</html>",
    "{",
    "null",
    "[]",
    `"result"`,
    `{"jsonrpc":"2.0","id":1}`,
    `{"result":7}`,
    `{"result":null}`,
    `{"error":null}`,
    `{"error":"no"}`,
    `{"error":[]}`,
    `${RESPONSE}x`,
  ];
  for (const body of bodies) {
    response = () => json(body);
    assertFails(await box.ask(), ErrorCode.indeterminate, /may have run/);
    response = () => json(body, 502);
    assertFails(await box.ask(), ErrorCode.indeterminate, /502.*may have run/);
    response = () => events(`data: ${body}\n\n`);
    assertFails(await box.ask(), ErrorCode.indeterminate, /may have run/);
  }
  response = () => json(new Uint8Array([...new TextEncoder().encode(`{"result":{"a":"`), 0xff]));
  assertFails(await box.ask(), ErrorCode.indeterminate, /may have run/);
  response = () => {
    throw new Error("in the middle");
  };
  assertFails(await box.ask(), ErrorCode.indeterminate, /may have run/);
  response = () => Response.redirect("http://127.0.0.1:1/");
  assertFails(await box.ask(), ErrorCode.indeterminate, /may have run/);
});

Deno.test("callServer says serverUnavailable for what a data path refuses unread", async () => {
  let status = 401;
  await using box = toolbox(() => new Response(null, { status }));
  assertFails(await box.ask(), ErrorCode.serverUnavailable, /signature.*clocks/);
  for (status of [404, 413, 503]) {
    assertFails(await box.ask(), ErrorCode.serverUnavailable, /was not made/);
  }
});

Deno.test("callServer names the clocks' offset when a signature is refused", async () => {
  let offsetS = 75;
  await using box = toolbox(() => {
    const date = new Date(Date.now() + offsetS * 1000).toUTCString();
    return new Response(null, { status: 401, headers: { date } });
  });
  const refused = /its clock is 7[456] s/;
  assertFails(await box.ask(), ErrorCode.serverUnavailable, refused);
  assertFails(await box.ask(), ErrorCode.serverUnavailable, /ahead of the app's.*was not made/);
  offsetS = -75;
  assertFails(await box.ask(), ErrorCode.serverUnavailable, /7[456] s behind the app's/);
  offsetS = 0;
  assertFails(await box.ask(), ErrorCode.serverUnavailable, /both clocks agree/);
});

Deno.test("callServer passes a refusal's error whatever its status", async () => {
  await using box = toolbox(() =>
    json(`{"jsonrpc":"2.0","error":{"code":-32602,"message":"m"}}`, 400)
  );
  assertFails(await box.ask(), -32602, /^m$/);
});

for (const kind of ["a body", "a stream of one event", "a stream of one line without an end"]) {
  Deno.test(`callServer says answerTooLarge for ${kind} over the limit`, async () => {
    await using box = toolbox(() => {
      const chunk = new TextEncoder().encode("x".repeat(64 * 1024));
      const before = kind === "a body"
        ? `{"result":{"a":"`
        : kind.includes("one line")
        ? "data: "
        : "data: x\n";
      let sent = 0;
      const body = new ReadableStream<Uint8Array>({
        start: (controller) => controller.enqueue(new TextEncoder().encode(before)),
        pull(controller) {
          if (kind.includes("one event")) controller.enqueue(new TextEncoder().encode("data: "));
          controller.enqueue(chunk);
          if (kind.includes("one event")) controller.enqueue(new TextEncoder().encode("\n"));
          if (++sent === 200) controller.close();
        },
      });
      return kind === "a body" ? json(body) : events(body);
    });
    assertFails(await box.ask(), ErrorCode.answerTooLarge, /4 MiB/);
  });
}

Deno.test("callServer says answerTooLarge for a small body that unpacks to a large one", async () => {
  const large = new Blob([`{"result":{"a":"`, "x".repeat(64 * 1024 * 1024), `"}}`]);
  const packed = await new Response(large.stream().pipeThrough(new CompressionStream("gzip")))
    .bytes();
  const headers = {
    "content-type": "application/json",
    "content-encoding": "gzip",
    "content-length": String(packed.length),
  };
  await using box = toolbox(() => new Response(packed, { headers }));
  assertFails(await box.ask(), ErrorCode.answerTooLarge, /4 MiB/);
});

Deno.test("callServer takes an answer just under the limit", async () => {
  const text = "x".repeat(4 * 1024 * 1024 - 100);
  let stream = false;
  await using box = toolbox(() => {
    const body = `{"jsonrpc":"2.0","id":1,"result":{"text":"${text}"}}`;
    return stream ? events(`data: ${body}\n\n`) : json(body);
  });
  assert.equal((await box.ask()).value.text, text);
  stream = true;
  assert.equal((await box.ask()).value.text, text);
});

for (const [name, end] of [["LF", "\n"], ["CRLF", "\r\n"], ["CR", "\r"]]) {
  Deno.test(`callServer reads events that end with ${name}, cut anywhere`, async () => {
    const lines = [
      "\uFEFF: a comment",
      "",
      "event: message",
      "id: 7",
      `data: ${progress(1)}`,
      "",
      ": ping",
      "",
      `data:${progress(2)}`,
      "retry: 5",
      "",
      // One event's data on two lines, as SSE has it.
      `data: {"jsonrpc":"2.0","id":1,`,
      `data: "result":${RESULT}}`,
      "",
      "",
    ];
    const bytes = new TextEncoder().encode(lines.join(end));
    let chunks: Uint8Array[] = [];
    await using box = toolbox(() => events(streamed(chunks)));
    const check = async () => {
      const notes: string[] = [];
      const answer = await box.ask({ onNotification: (text) => notes.push(text) });
      assert.equal(answer.text, RESULT);
      assert.deepEqual(notes, [progress(1), progress(2)]);
    };
    chunks = [bytes];
    await check();
    chunks = Array.from(bytes, (byte) => new Uint8Array([byte]));
    await check();
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(fc.nat(bytes.length), { maxLength: 12 }), async (cuts) => {
        const places = [0, ...cuts.toSorted((a, b) => a - b), bytes.length];
        chunks = places.slice(1).map((end, i) => bytes.subarray(places[i], end))
          .filter((chunk) => chunk.length > 0);
        await check();
      }),
      { numRuns: 25 },
    );
  });
}

Deno.test("callServer passes on no event that is no message", async () => {
  await using box = toolbox(() => events(`data: not JSON\n\ndata: ${RESPONSE}\n\n`));
  const notes: string[] = [];
  const answer = await box.ask({ onNotification: (text) => notes.push(text) });
  assertFails(answer, ErrorCode.indeterminate, /may have run/);
  assert.deepEqual(notes, []);
});

Deno.test("callServer passes notifications on as one line each", async () => {
  await using box = toolbox(() =>
    events(`data: {"method":\ndata: "notifications/x"}\n\ndata: ${RESPONSE}\n\n`)
  );
  const notes: string[] = [];
  await box.ask({ onNotification: (text) => notes.push(text) });
  assert.deepEqual(notes, [`{"method": "notifications/x"}`]);
});

Deno.test("callServer says indeterminate for a stream without a response", async () => {
  await using box = toolbox(() => events(`data: ${progress(1)}\n\n: ping\n\ndata: ${RESPONSE}`));
  assertFails(await box.ask(), ErrorCode.indeterminate, /broke off.*may have run/);
});

Deno.test("callServer throws the reason of an abort, before and amid an answer", async () => {
  const asked = Promise.withResolvers<void>();
  const held = Promise.withResolvers<Response>();
  await using box = toolbox((request) => {
    asked.resolve();
    request.signal.addEventListener("abort", () => held.resolve(json("{}")));
    return held.promise;
  });
  const gone = new AbortController();
  const answer = box.ask({ signal: gone.signal });
  await asked.promise;
  gone.abort(new Error("left"));
  await assert.rejects(answer, /left/);
  await held.promise;

  const stopped = Promise.withResolvers<void>();
  await using streaming = toolbox(() =>
    events(
      new ReadableStream<Uint8Array>({
        start: (controller) =>
          controller.enqueue(new TextEncoder().encode(`data: ${progress(1)}\n\n`)),
        cancel: () => stopped.resolve(),
      }),
    )
  );
  const left = new AbortController();
  const onNotification = () => left.abort(new Error("left amid"));
  await assert.rejects(streaming.ask({ signal: left.signal, onNotification }), /left amid/);
  await stopped.promise;
});
