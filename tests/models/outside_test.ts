import assert from "node:assert/strict";
import { isPublic, openOutside, OutsideError } from "../../models/outside.ts";
import { makeCertificates } from "../oauth/certificates.ts";

const certificates = await makeCertificates(["good.example.test", "localhost"]);
const TRUSTED = { privateHosts: ["good.example.test"], ca: certificates.ca };
const AT_HOME = { "good.example.test": ["127.0.0.1"] };

function startServer(handle: (request: Request) => Response | Promise<Response>) {
  const { cert, key } = certificates;
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, cert, key, onListen() {} }, handle);
  return {
    url: `https://good.example.test:${server.addr.port}`,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

const refusal = (says: RegExp) => (error: unknown) => {
  assert.ok(error instanceof OutsideError, String(error));
  assert.match(error.message, says);
  return true;
};

Deno.test("isPublic knows what is nobody's on the internet, in every block", () => {
  const inside = [
    ...["0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "169.254.169.254"],
    ...["172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.168.1.1", "198.19.0.1"],
    ...["198.51.100.7", "203.0.113.9", "224.0.0.1", "240.0.0.1", "255.255.255.255"],
    ...["::", "::1", "::ffff:8.8.8.8", "::ffff:7f00:1", "fe80::1", "fc00::1", "fd12::1", "ff02::1"],
    ...[
      "64:ff9b::7f00:1",
      "2001::1",
      "2001:db8::1",
      "2002:7f00:1::",
      "",
      "none",
      "1.2.3",
      "1.2.3.4.5",
    ],
    ...["300.1.1.1", "fec0::1", "100::1"],
  ];
  assert.deepEqual(inside.filter(isPublic), []);
  const outside = [
    ...["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1"],
    ...["192.0.1.1", "198.17.0.1", "198.20.0.1", "223.255.255.255", "2606:4700::1111"],
    ...["2a00:1450:4001::200e", "2001:4860:4860::8888"],
  ];
  assert.deepEqual(outside.filter((each) => !isPublic(each)), []);
});

Deno.test("openOutside asks by name over https alone", async () => {
  const outside = openOutside();
  await assert.rejects(outside("http://good.example.test/"), refusal(/without https/));
  for (
    const host of ["127.0.0.1", "2130706433", "0x7f.1", "017700000001", "[::1]", "[::ffff:7f00:1]"]
  ) {
    await assert.rejects(outside(`https://${host}/`), refusal(/is an address, not a name/), host);
  }
  await assert.rejects(outside("https://a:b@good.example.test/"), refusal(/with a password/));
  await assert.rejects(outside("file:///etc/passwd"), refusal(/without https/));
});

Deno.test("openOutside connects to none of a private network, whatever it is called", async () => {
  let wasAsked = false;
  await using server = startServer(() => {
    wasAsked = true;
    return new Response("secret");
  });
  const { port } = new URL(server.url);
  // By the resolver, and with one private address among public ones.
  await assert.rejects(openOutside()(`https://localhost:${port}`), refusal(/private network/));
  const mixed = openOutside({
    addresses: { "good.example.test": ["1.1.1.1", "127.0.0.1"] },
    ca: certificates.ca,
  });
  await assert.rejects(mixed(server.url), refusal(/private network/));
  await assert.rejects(openOutside()("https://no.such.name.invalid/"), refusal(/has no address/));
  assert.equal(wasAsked, false);

  const allowed = openOutside({ ...TRUSTED, addresses: AT_HOME });
  assert.equal(await (await allowed(server.url)).text(), "secret");
  const untrusting = openOutside({ privateHosts: ["good.example.test"], addresses: AT_HOME });
  await assert.rejects(untrusting(server.url), refusal(/does not answer/));
});

Deno.test("openOutside follows a GET's redirects to fit hosts, three at most, and none of a POST", async () => {
  const seen: string[] = [];
  await using server = startServer((request) => {
    const { pathname, origin } = new URL(request.url);
    seen.push(`${request.method} ${pathname}`);
    const to: Record<string, string> = {
      "/one": "/two",
      "/two": "/end",
      "/loop": "/loop",
      "/inside": "https://localhost/latest/meta-data",
      "/address": "https://169.254.169.254/latest/meta-data",
      "/plain": "http://good.example.test/",
    };
    return to[pathname]
      ? new Response(null, { status: 302, headers: { location: to[pathname] } })
      : new Response(`end of ${origin.slice(0, 8)}`);
  });
  const outside = openOutside({ ...TRUSTED, addresses: AT_HOME });
  assert.equal(await (await outside(`${server.url}/one`)).text(), "end of https://");
  await assert.rejects(outside(`${server.url}/loop`), refusal(/redirects too often/));
  await assert.rejects(outside(`${server.url}/inside`), refusal(/private network/));
  await assert.rejects(outside(`${server.url}/address`), refusal(/is an address/));
  await assert.rejects(outside(`${server.url}/plain`), refusal(/without https/));
  seen.length = 0;
  const posted = await outside(`${server.url}/one`, { method: "POST", body: "code=secret" });
  assert.equal(posted.status, 302);
  assert.deepEqual(seen, ["POST /one"]);
});

Deno.test("openOutside reads 256 KiB at most", async () => {
  let cancelled = false;
  await using server = startServer(() => {
    const chunk = new Uint8Array(64 * 1024);
    return new Response(
      new ReadableStream({
        pull: (controller) => controller.enqueue(chunk),
        cancel: () => void (cancelled = true),
      }),
    );
  });
  const outside = openOutside({ ...TRUSTED, addresses: AT_HOME });
  await assert.rejects(outside(server.url), refusal(/more than 256 KiB/));
  while (!cancelled) await new Promise((resolve) => setTimeout(resolve, 10));
});

Deno.test("openOutside survives a status that is none", async () => {
  const { cert, key } = certificates;
  using listener = Deno.listenTls({ hostname: "127.0.0.1", port: 0, cert, key });
  const answering = (async () => {
    using connection = await listener.accept();
    await connection.read(new Uint8Array(4096));
    await connection.write(
      new TextEncoder().encode("HTTP/1.1 600 X\r\nContent-Length: 2\r\n\r\nhi"),
    );
    await connection.read(new Uint8Array(1)).catch(() => {});
  })();
  const outside = openOutside({ ...TRUSTED, addresses: AT_HOME });
  const url = `https://good.example.test:${listener.addr.port}`;
  await assert.rejects(outside(url), refusal(/does not answer: 600 is no status/));
  await answering;
});
