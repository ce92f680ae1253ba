/** What reads hostile bytes in the egress proxy. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createServer } from "node:net";
import { connect as connectTls } from "node:tls";
import fc from "npm:fast-check@4.10.2";
import { readClientHello } from "../../dtma/egress_proxy/client_hello.mts";
import { readQuery, writeAnswer } from "../../dtma/egress_proxy/dns_message.mts";
import {
  canonicalHost,
  covers,
  networks,
  parseRule,
  refusal,
  soleHost,
} from "../../dtma/egress_proxy/hosts.mts";
import { Denials } from "../../dtma/egress_proxy/denials.mts";
import { Denial } from "../../dtma/protocol.ts";
import { whatIs } from "../../dtma/egress_proxy/network.mts";

/** What a real TLS client sends first. */
async function helloFor(servername: string): Promise<Uint8Array> {
  const { promise, resolve } = Promise.withResolvers<Uint8Array>();
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", (bytes: Uint8Array) => {
      resolve(bytes);
      socket.destroy();
    });
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as { port: number };
  const client = connectTls({ host: "127.0.0.1", port, servername, rejectUnauthorized: false });
  client.on("error", () => {});
  const hello = await promise;
  client.destroy();
  await new Promise((closed) => server.close(closed));
  return new Uint8Array(hello);
}

/** The same handshake message in records of other sizes. */
function refragment(hello: Uint8Array, sizes: number[]): Uint8Array {
  let message = hello.subarray(5);
  const records: number[] = [];
  for (let at = 0; message.length > 0; at++) {
    const part = message.subarray(0, sizes[at % sizes.length]);
    message = message.subarray(part.length);
    records.push(22, 3, 1, part.length >> 8, part.length & 0xff, ...part);
  }
  return Uint8Array.from(records);
}

function concat(...parts: number[][]): number[] {
  return parts.flat();
}

function vector(size: number, content: number[]): number[] {
  const length = [];
  for (let shift = 8 * (size - 1); shift >= 0; shift -= 8) {
    length.push(content.length >> shift & 0xff);
  }
  return [...length, ...content];
}

/** A ClientHello by hand, with these extensions. */
function helloWith(extensions: [type: number, data: number[]][], after: number[] = []): Uint8Array {
  const body = concat(
    [3, 3],
    new Array(32).fill(7),
    vector(1, []),
    vector(2, [0x13, 0x01]),
    vector(1, [0]),
    vector(
      2,
      extensions.flatMap(([type, data]) => [type >> 8, type & 0xff, ...vector(2, data)]),
    ),
    after,
  );
  const message = [1, ...vector(3, body)];
  return Uint8Array.from([22, 3, 1, ...vector(2, message)]);
}

const sni = (name: string) => vector(2, [0, ...vector(2, [...new TextEncoder().encode(name)])]);

Deno.test("readClientHello finds the name in a real hello, whole and in any pieces", async () => {
  const hello = await helloFor("api.example.test");
  assert.deepEqual(readClientHello(hello), { kind: "hello", serverName: "api.example.test" });
  for (let length = 0; length < hello.length; length++) {
    assert.deepEqual(readClientHello(hello.subarray(0, length)), { kind: "incomplete" });
  }
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1 }), (sizes) => {
      assert.deepEqual(readClientHello(refragment(hello, sizes)), {
        kind: "hello",
        serverName: "api.example.test",
      });
    }),
  );
});

Deno.test("readClientHello gives an answer to any bytes, and never a name that is not there", async () => {
  const hello = await helloFor("api.example.test");
  fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
    const read = readClientHello(bytes);
    if (read.kind === "hello") assert.equal(read.serverName, null);
  }));
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat({ max: hello.length - 1 }), fc.nat({ max: 255 })), { maxLength: 8 }),
      (changes) => {
        const changed = hello.slice();
        for (const [at, byte] of changes) changed[at] = byte;
        const read = readClientHello(changed);
        if (read.kind !== "hello" || read.serverName === null) return;
        // Whatever name it reads stands in the bytes as an SNI entry of that length.
        const bytes = Buffer.from(changed);
        assert.ok(bytes.includes(Buffer.from(read.serverName, "latin1")));
        assert.match(read.serverName, /^[\x21-\x7e]{1,255}$/);
      },
    ),
  );
});

Deno.test("readClientHello refuses what another parser could read in another way", () => {
  const wrong = (bytes: Uint8Array) => assert.equal(readClientHello(bytes).kind, "wrong");
  assert.deepEqual(readClientHello(helloWith([[0, sni("a.test")]])), {
    kind: "hello",
    serverName: "a.test",
  });
  assert.deepEqual(readClientHello(helloWith([[43, [2, 3, 4]]])), {
    kind: "hello",
    serverName: null,
  });
  wrong(helloWith([[0, sni("a.test")], [0, sni("b.test")]]));
  const two = vector(2, [0, ...vector(2, [97]), 0, ...vector(2, [98])]);
  wrong(helloWith([[0, two]]));
  wrong(helloWith([[0, [...sni("a.test"), 0]]]));
  wrong(helloWith([[0, sni("a.test\0.evil.test")]]));
  wrong(helloWith([[0, sni("")]]));
  wrong(helloWith([[0, vector(2, [1, ...vector(2, [97])])]]));
  wrong(helloWith([[0, sni("a.test")]], [0]));
  wrong(Uint8Array.of(22, 3, 1, 0, 0));
  wrong(Uint8Array.of(22, 3, 1, 0xff, 0xff));
  wrong(Uint8Array.of(22, 2));
  wrong(Uint8Array.of(22, 3, 1, 0, 4, 2, 0, 0, 0));
  wrong(Uint8Array.of(22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff));
  const hello = helloWith([[0, sni("a.test")]]);
  wrong(Uint8Array.from([...hello.subarray(0, 4), 4, ...hello.subarray(5, 9), 23, 3, 3, 0, 1, 0]));
});

Deno.test("whatIs tells TLS, HTTP and the rest by the first bytes, and waits for no more than it needs", () => {
  const of = (text: string) => whatIs(Buffer.from(text, "latin1"));
  assert.equal(of("GET / HTTP/1.1\r\n")?.kind, "http");
  assert.equal(of("get / http/1.1\n")?.kind, "http");
  assert.equal(of("GET /")?.kind, undefined);
  assert.equal(of("GET key\r\n")?.kind, "other");
  assert.equal(of("PING")?.kind, "other");
  assert.equal(of("AMQP\0\0\x09\x01")?.kind, "other");
  assert.equal(of("G")?.kind, undefined);
  assert.equal(of("*1\r\n$4\r\nPING")?.kind, "other");
  assert.equal(of("SSH-2.0-x")?.kind, "other");
  assert.equal(of("PRI * HTTP/2.0\r\n")?.kind, "other");
  assert.equal(of("\r\nGET / HTTP/1.1\r\n")?.kind, "wrong");
  assert.equal(of("GET /" + "a".repeat(9000))?.kind, "wrong");
  assert.equal(of("\x16")?.kind, undefined);
  assert.equal(of("\x16\x05")?.kind, "other");
});

/** A query by hand. */
function query(labels: string[], type = 1, flags = 0x0100): Uint8Array {
  const name = labels.flatMap((label) => [label.length, ...new TextEncoder().encode(label)]);
  return Uint8Array.from([
    ...[0xab, 0xcd, flags >> 8, flags & 0xff, 0, 1, 0, 0, 0, 0, 0, 0],
    ...[...name, 0, type >> 8, type & 0xff, 0, 1],
  ]);
}

Deno.test("readQuery and writeAnswer give back the question, and the addresses", () => {
  const asked = query(["aPi", "Example", "test"]);
  const read = readQuery(asked);
  assert.ok(read && "name" in read);
  assert.equal(read.name, "api.example.test");
  assert.equal(read.type, 1);
  const answer = writeAnswer(read, 0, ["10.213.0.2", "1.2.3.4"]);
  assert.deepEqual([...answer.subarray(0, 12)], [0xab, 0xcd, 0x85, 0x80, 0, 1, 0, 2, 0, 0, 0, 0]);
  assert.deepEqual(answer.slice(12, asked.length), asked.slice(12), "letter case and all");
  assert.deepEqual([...answer.subarray(-4)], [1, 2, 3, 4]);
});

Deno.test("readQuery gives an answer to any bytes, and answers no answer", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
    const read = readQuery(bytes);
    if (bytes.length < 12 || bytes[2] & 0x80) assert.equal(read, null);
    if (read && "name" in read) {
      assert.match(read.name, /^[a-z0-9_.?-]*$/);
      assert.ok(read.name.length <= 253);
      writeAnswer(read, 3, []);
    }
  }));
  fc.assert(
    fc.property(
      fc.array(fc.stringMatching(/^[a-z0-9-]{1,20}$/), { minLength: 1, maxLength: 8 }),
      fc.nat({ max: 65_535 }),
      (labels, type) => {
        const read = readQuery(query(labels, type));
        assert.ok(read && "name" in read);
        assert.equal(read.name, labels.join("."));
        assert.equal(read.type, type);
      },
    ),
  );
  const long = query(new Array(5).fill("a".repeat(60)));
  assert.deepEqual(readQuery(long), { id: 0xabcd, code: 1 });
  const pointer = query(["a"]);
  pointer[12] = 0xc0;
  assert.deepEqual(readQuery(pointer), { id: 0xabcd, code: 1 });
  const dotted = readQuery(query(["a.b", "test"]));
  assert.ok(dotted && "name" in dotted && dotted.name === "a?b.test");
});

Deno.test("canonicalHost takes names and one writing of an address", () => {
  assert.equal(canonicalHost("API.Example.test."), "api.example.test");
  assert.equal(canonicalHost("10.1.2.3"), "10.1.2.3");
  const not = [
    ...["", ".", "a..b", "127.1", "2130706433", "0x7f000001", "0x7f.1", "010.1.2.3", "1.2.3.4.5"],
    ...["[::1]", "::ffff:127.0.0.1", "a b", "a/b", "a:1", "ä.test", "a".repeat(64), "a@b.test"],
    ...["127.0.0.1\0.test", "a.test\r\nX: y", "x." + "a.".repeat(130) + "test"],
  ];
  for (const text of not) assert.equal(canonicalHost(text), null, text);
});

Deno.test("rules cover what they say", () => {
  const rule = (text: string) => parseRule(text)!;
  assert.ok(covers(rule("api.test:443"), "api.test"));
  assert.ok(!covers(rule("api.test:443"), "x.api.test"));
  assert.ok(covers(rule("*.api.test:443"), "x.api.test"));
  assert.ok(!covers(rule("*.api.test:443"), "api.test"));
  assert.ok(!covers(rule("*.api.test:443"), "evilapi.test"));
  assert.ok(covers(rule("*:443"), "anything.test"));
  for (
    const text of ["api.test", "api.test:0", "api.test:70000", "a*.test:1", "*.1.2.3.4:1", ":1"]
  ) {
    assert.equal(parseRule(text), null, text);
  }
  const rules = ["db.test:5432", "a.test:443", "b.test:443", "*.c.test:22", "10.0.0.5:6379"].map(
    rule,
  );
  assert.equal(soleHost(rules, 5432), "db.test");
  assert.equal(soleHost(rules, 6379), "10.0.0.5");
  for (const port of [443, 22, 1]) assert.equal(soleHost(rules, port), null);
});

Deno.test("refusal lets nothing through that is not on the internet, unless it was opened", () => {
  const none = networks([]);
  const own = networks(["10.213.0.8/29"]);
  const check = (address: string, declared = false, privateNetworks = none) =>
    refusal(address, { declared, privateNetworks, own });
  for (const address of ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.63.255.255"]) {
    assert.equal(check(address), null, address);
  }
  const special = [
    ...["0.0.0.0", "127.0.0.1", "127.255.0.1", "10.0.0.1", "172.16.0.1", "172.31.255.255"],
    ...[
      "192.168.1.1",
      "169.254.169.254",
      "100.64.0.1",
      "100.100.100.200",
      "224.0.0.1",
      "240.0.0.1",
    ],
    ...["255.255.255.255", "192.0.0.192", "168.63.129.16", "198.18.0.1", "203.0.113.1"],
    ...["::1", "::ffff:127.0.0.1", "fd00:ec2::254", "fe80::1", "64:ff9b::7f00:1", "2606:4700::1"],
  ];
  for (const address of special) assert.notEqual(check(address), null, address);
  assert.equal(check("10.1.2.3", true), null, "declared by its number");
  assert.notEqual(check("169.254.169.254", true), null, "metadata is not for the asking");
  assert.notEqual(check("127.0.0.1", true), null);
  assert.equal(check("10.1.2.3", false, networks(["10.0.0.0/8"])), null);
  assert.equal(check("169.254.169.254", false, networks(["169.254.169.254/32"])), null);
  const all = networks(["0.0.0.0/0"]);
  for (const address of ["127.0.0.1", "0.0.0.0", "224.0.0.1", "10.213.0.10", "255.255.255.255"]) {
    assert.notEqual(check(address, true, all), null, address);
  }
});

Deno.test("Denials of whatever a server says are such as DTMA takes", () => {
  const denials = new Denials();
  // An HTTP/1.0 request names no host, and one of `http:///` an empty one.
  for (const host of ["", "\0".repeat(300), "Ü.example", "x".repeat(300)]) {
    denials.add(crypto.randomUUID(), host, 80, "Not the name of a host");
  }
  for (const denied of denials.take(10)) assert.deepEqual(Denial.parse(denied), denied);
});

Deno.test("Denials counts, and keeps a bounded number of hosts however many are made up", () => {
  const denials = new Denials();
  for (let round = 0; round < 10_000; round++) {
    denials.add("a", `x${round}.evil.test`, 443, "no");
    denials.add("b", "one.evil.test\r\n\u202e", 443, "no");
  }
  const taken = denials.take(200);
  assert.ok(taken.length < 40);
  const sum = (server: string) =>
    taken.filter(({ serverId }) => serverId === server).reduce((all, { count }) => all + count, 0);
  assert.equal(sum("a"), 10_000);
  assert.equal(sum("b"), 10_000);
  assert.equal(taken.find(({ serverId }) => serverId === "b")?.host, "one.evil.test???");
  assert.deepEqual(denials.take(200), []);
});
