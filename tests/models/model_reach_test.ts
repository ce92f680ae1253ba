import assert from "node:assert/strict";
import { openModelReach } from "../../models/model_reach.ts";
import { OutsideError } from "../../models/outside.ts";

function startServer(handle: (request: Request) => Response | Promise<Response>) {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, handle);
  return {
    port: server.addr.port,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

const options = { sanitizeResources: false, sanitizeOps: false };

Deno.test("openModelReach asks nothing that is near, unless an operator named it", async () => {
  const { refusalOf } = openModelReach({ privateHosts: ["localhost:11434", "ollama.internal"] });
  const refused: [string, RegExp][] = [
    ["http://example.com/v1", /without https/],
    ["https://127.0.0.1/v1", /is an address/],
    ["https://[::1]/v1", /is an address/],
    ["https://0x7f.1/v1", /is an address/],
    ["https://169.254.169.254/latest", /is an address/],
    ["https://localhost/v1", /private network/],
    ["http://localhost:11435/v1", /without https/],
    ["https://no.such.name.invalid/v1", /has no address/],
    ["https://user:pass@example.com/v1", /password in a URL/],
  ];
  for (const [url, says] of refused) assert.match(await refusalOf(new URL(url)) ?? "", says, url);
  assert.equal(await refusalOf(new URL("http://localhost:11434/v1")), null);
});

Deno.test({
  name: "openModelReach streams what comes, sends the key to nobody else, and can be aborted",
  ...options,
  async fn() {
    let asked = 0;
    await using server = startServer(async (request) => {
      asked++;
      const { pathname } = new URL(request.url);
      if (pathname === "/redirects") {
        return Response.redirect(`http://127.0.0.1:${server.port}/elsewhere`, 307);
      }
      if (pathname === "/status") return Response.json({ error: "x" }, { status: 429 });
      const said = await request.text();
      let n = 0;
      return new Response(
        new ReadableStream({
          async pull(controller) {
            await new Promise((resolve) => setTimeout(resolve, 20));
            controller.enqueue(new TextEncoder().encode(`${said} ${n++}\n`));
          },
        }),
      );
    });
    const host = `127.0.0.1:${server.port}`;
    const { fetch } = openModelReach({ privateHosts: [host] });
    const redirected = await fetch(`http://${host}/redirects`, { method: "POST", body: "x" });
    assert.equal(redirected.status, 307);
    assert.equal(asked, 1, "it goes where it was told, and no further");
    assert.equal((await fetch(`http://${host}/status`)).status, 429);

    const left = new AbortController();
    const init = { method: "POST", body: "ahoy", signal: left.signal };
    const answer = await fetch(`http://${host}/stream`, init);
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
    assert.match((await reader.read()).value!, /^ahoy 0/);
    assert.match((await reader.read()).value!, /ahoy 1/);
    left.abort();
    await assert.rejects(async () => {
      for (;;) if ((await reader.read()).done) return;
    });
    await assert.rejects(openModelReach().fetch(`http://${host}/`), OutsideError);
  },
});

Deno.test({
  name: "openModelReach gives up what answers without end",
  ...options,
  async fn() {
    const chunk = new Uint8Array(1024 * 1024);
    let sent = 0;
    await using server = startServer(() =>
      new Response(
        new ReadableStream({
          pull(controller) {
            if (++sent === 300) controller.close();
            else controller.enqueue(chunk);
          },
        }),
      )
    );
    const host = `127.0.0.1:${server.port}`;
    const answer = await openModelReach({ privateHosts: [host] }).fetch(`http://${host}/`);
    await assert.rejects(
      answer.bytes(),
      (error) =>
        error instanceof OutsideError && /answered with more than 64 MiB/.test(error.message),
    );
    assert.ok(sent < 200, `${sent} MiB were taken`);
  },
});

Deno.test({
  name: "openModelReach survives a status that is none",
  ...options,
  async fn() {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const answering = (async () => {
      using connection = await listener.accept();
      await connection.read(new Uint8Array(4096));
      await connection.write(
        new TextEncoder().encode("HTTP/1.1 600 X\r\nContent-Length: 2\r\n\r\nhi"),
      );
      await connection.read(new Uint8Array(1)).catch(() => {});
    })();
    const host = `127.0.0.1:${listener.addr.port}`;
    const { fetch } = openModelReach({ privateHosts: [host] });
    const answer = await fetch(`http://${host}/v1`);
    assert.equal(answer.status, 502);
    await answer.body?.cancel();
    await answering;
  },
});
