import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "npm:fast-check@4.10.2";
import { dial } from "../../dtma/dial.ts";
import {
  acceptedLink,
  dialledLink,
  type Link,
  type LinkAnswer,
  type LinkCall,
  LinkError,
  type LinkOptions,
  linkSocket,
} from "../../dtma/link.ts";
import { type Proxy, tcpProxy } from "./tcp_proxy.ts";

/** Both ways to make a link: the app calls and DTMA serves in either. */
const WAYS = ["direct", "tunnel"] as const;
type Way = typeof WAYS[number];

const TARGET = { serverId: "01890000-0000-7000-8000-000000000001", instance: null };

interface Linked extends AsyncDisposable {
  /** The app's end. */
  app: Link;
  /** DTMA's end. */
  dtma: Link;
  proxy: Proxy;
}

/** A link over TCP and HTTP on the loopback, with a proxy in the middle. */
async function linked(
  way: Way,
  serve: (call: LinkCall) => Promise<LinkAnswer>,
  { app: appOptions = {}, dtma: dtmaOptions = {} }: {
    app?: Partial<LinkOptions>;
    dtma?: Partial<LinkOptions>;
  } = {},
): Promise<Linked> {
  const app = { version: 2, self: "the app", peer: "the toolbox's DTMA", ...appOptions };
  const dtma = { version: 2, self: "the toolbox's DTMA", peer: "the app", serve, ...dtmaOptions };
  const [dialler, acceptor] = way === "direct" ? [app, dtma] : [dtma, app];
  const accepted = Promise.withResolvers<Link>();
  accepted.promise.catch(() => {});
  const http = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: 0 });
    acceptedLink(linkSocket(socket), acceptor).then(accepted.resolve, accepted.reject);
    return response;
  });
  const proxy = tcpProxy(http.addr.port);
  const close = async () => {
    proxy.close();
    await http.shutdown();
  };
  try {
    const socket = await dial(new URL(`http://127.0.0.1:${proxy.port}/link`), {});
    const dialled = await dialledLink(socket, dialler);
    const other = await accepted.promise;
    const ends = way === "direct" ? [dialled, other] : [other, dialled];
    return {
      app: ends[0],
      dtma: ends[1],
      proxy,
      async [Symbol.asyncDispose]() {
        for (const end of ends) end.close("The test is over");
        await close();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Serves what the request asks for in JSON: `size` characters of `of`, after `notes` notifications. */
function echo({ text, notify }: LinkCall): Promise<string> {
  const { n, size = 0, of = "x", notes = 0 } = JSON.parse(text);
  for (let i = 0; i < notes; i++) notify(`${n}/${i}`);
  return Promise.resolve(`${n}:${of.repeat(size)}`);
}

/** Until what another process or turn does is there to be seen. */
async function until(isThere: () => boolean): Promise<void> {
  while (!isThere()) await new Promise((resolve) => setTimeout(resolve, 5));
}

async function failureOf(call: Promise<unknown>): Promise<LinkError> {
  const error = await call.then((answer) => answer, (error) => error);
  assert(error instanceof LinkError, String(error));
  return error;
}

for (const way of WAYS) {
  Deno.test(`Link (${way}) carries 64 calls at once, each with its own notifications and answer`, async () => {
    await using link = await linked(way, async (call) => {
      // Out of order.
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
      return await echo(call);
    });
    await Promise.all(Array.from({ length: 64 }, async (_, n) => {
      for (let round = 0; round < 5; round++) {
        const notes: string[] = [];
        const size = n % 3 === 0 ? 100_000 : 10;
        const answer = await link.app.call(TARGET, JSON.stringify({ n, size, notes: 5 }), {
          onNotification: (text) => void notes.push(text),
        });
        assert.equal(answer, `${n}:${"x".repeat(size)}`);
        assert.deepEqual(notes, Array.from({ length: 5 }, (_, i) => `${n}/${i}`));
      }
    }));
    assert.equal(link.app.inFlight + link.dtma.inFlight, 0);
  });

  Deno.test(`Link (${way}) carries results as the bytes that they are, beside texts`, async () => {
    const bytesOf = (n: number, size: number) =>
      Uint8Array.from({ length: size }, (_, at) => (at * 31 + n) & 255);
    await using link = await linked(way, async (call) => {
      const { n, size } = JSON.parse(call.text);
      assert.equal(call.takesResultBytes, true);
      if (n % 2 === 0) return await echo(call);
      call.notify(`${n}/before`);
      const whole = bytesOf(n, size), at = Math.floor(size * Math.random());
      return [whole.subarray(0, at), new Uint8Array(), whole.subarray(at)];
    });
    const sizes = [0, 1, 65_535, 65_536, 65_537, 200_000, 1_100_000, 4 * 1024 * 1024];
    await Promise.all(sizes.flatMap((size, i) =>
      [2 * i, 2 * i + 1].map(async (n) => {
        const notes: string[] = [];
        const answer = await link.app.call(TARGET, JSON.stringify({ n, size }), {
          onNotification: (text) => void notes.push(text),
        });
        if (typeof answer === "string") assert.equal(answer, `${n}:${"x".repeat(size)}`);
        else {
          assert.deepEqual(notes, [`${n}/before`]);
          assert(Buffer.from(answer).equals(bytesOf(n, size)), `${n}`);
        }
        assert.equal(typeof answer === "string", n % 2 === 0);
      })
    ));
    assert.equal(link.app.inFlight + link.dtma.inFlight, 0);
    // A result over the limit ends its own call alone.
    await assert.rejects(
      link.app.call(TARGET, JSON.stringify({ n: 1, size: 5 * 1024 * 1024 })),
      RangeError,
    );
    assert.equal(await link.app.call(TARGET, JSON.stringify({ n: 2, size: 1 })), "2:x");
  });

  Deno.test(`Link (${way}) gives the server's id, the instance and the request as they are`, async () => {
    const calls: unknown[] = [];
    await using link = await linked(way, ({ serverId, instance, text }) => {
      calls.push({ serverId, instance, text });
      return Promise.resolve("");
    });
    const targets = [TARGET, { ...TARGET, instance: "a\n:é\u{1f9ed}" }, {
      ...TARGET,
      instance: "",
    }];
    for (const target of targets) assert.equal(await link.app.call(target, "{}\n"), "");
    assert.deepEqual(calls, targets.map((target) => ({ ...target, text: "{}\n" })));
  });

  Deno.test(`Link (${way}) passes every text to the byte`, async () => {
    await using link = await linked(way, ({ text }) => Promise.resolve(text));
    const same = async (text: string) => assert.equal(await link.app.call(TARGET, text), text);
    await fc.assert(fc.asyncProperty(fc.string({ unit: "binary" }), same), { numRuns: 200 });
    await same(`{"big":12345678901234567890,\r\n"f":1.0,"e":1E400,"ls":"\u2028","a1,3:xyz":0}`);
    // Pieces end amid surrogate pairs wherever they are cut.
    await same("\u{1f9ed}".repeat(100_000));
    await same("x" + "\u{1f9ed}".repeat(100_000));
    await same("é世".repeat(1_000_000));
    await same("x".repeat(4 * 1024 * 1024));
  });

  Deno.test(`Link (${way}) answers small calls beside answers of 4 MiB`, async () => {
    await using link = await linked(way, echo);
    const done: string[] = [];
    const call = async (n: string, size: number) => {
      const answer = await link.app.call(TARGET, JSON.stringify({ n, size }));
      assert.equal(answer.length, n.length + 1 + size);
      done.push(n);
    };
    const large = ["A", "B", "C", "D"].map((n) => call(n, 4 * 1024 * 1024));
    const small = Array.from({ length: 50 }, (_, i) => call(`s${i}`, 10));
    await Promise.all([...large, ...small]);
    assert.deepEqual(done.slice(-4).sort(), ["A", "B", "C", "D"]);
  });

  Deno.test(`Link (${way}) refuses a message over its limit, and goes on`, async () => {
    await using link = await linked(way, echo);
    const size = 5 * 1024 * 1024;
    await assert.rejects(
      link.app.call(TARGET, JSON.stringify({ n: 1, size })),
      (error) => error instanceof RangeError,
    );
    const request = JSON.stringify({ n: 1, padding: "x".repeat(size) });
    const { message, mayHaveRun } = await failureOf(link.app.call(TARGET, request));
    assert.deepEqual([message, mayHaveRun], ["The request is too long", false]);
    assert.equal(await link.app.call(TARGET, `{"n":2}`), "2:");
    await until(() => link.app.inFlight + link.dtma.inFlight === 0);
  });

  Deno.test(`Link (${way}) lets a reader that does not read hold up itself alone`, async () => {
    const sent = Promise.withResolvers<void>();
    await using link = await linked(way, async (call) => {
      if (call.text !== "flood") return await echo(call);
      for (let i = 0; i < 5000; i++) call.notify(`${i} ${"x".repeat(1000)}`);
      sent.resolve();
      return "flooded";
    });
    const read = Promise.withResolvers<void>();
    const notes: number[] = [];
    const flooded = link.app.call(TARGET, "flood", {
      async onNotification(text) {
        notes.push(parseInt(text));
        await read.promise;
      },
    });
    await sent.promise;
    for (let n = 0; n < 20; n++) {
      const answer = await link.app.call(TARGET, JSON.stringify({ n, size: 200_000 }));
      assert.equal(answer.length, `${n}:`.length + 200_000);
    }
    // No more than its window came, and the answer waits behind it.
    assert(notes.length < 300, String(notes.length));
    read.resolve();
    assert.equal(await flooded, "flooded");
    // What was over the limit was dropped; what came is in order and from the beginning.
    assert(notes.length < 5000 && notes.length > 1000, String(notes.length));
    assert.deepEqual(notes, notes.map((_, i) => i));
  });

  Deno.test(`Link (${way}) cancels a call there when it is given up here`, async () => {
    const served: LinkCall[] = [];
    await using link = await linked(way, (call) => {
      served.push(call);
      return new Promise((_, reject) =>
        call.signal.addEventListener("abort", () => reject(call.signal.reason))
      );
    });
    const gone = new AbortController();
    const call = link.app.call(TARGET, "waits", { signal: gone.signal });
    const other = link.app.call(TARGET, "waits too");
    await until(() => served.length === 2);
    gone.abort(new Error("left"));
    await assert.rejects(call, /left/);
    await until(() => served[0].signal.aborted);
    assert.equal(served[1].signal.aborted, false);
    assert.deepEqual([link.app.inFlight, link.dtma.inFlight], [1, 1]);

    // Given up before it was sent: the other side never hears of it.
    const early = new AbortController();
    const unsent = link.app.call(TARGET, "never", { signal: early.signal });
    early.abort(new Error("at once"));
    await assert.rejects(unsent, /at once/);
    await assert.rejects(link.app.call(TARGET, "never", { signal: early.signal }), /at once/);
    link.app.close("The app stops");
    assert.equal((await failureOf(other)).mayHaveRun, true);
    await until(() => served[1].signal.aborted);
    assert.deepEqual(served.map(({ text }) => text), ["waits", "waits too"]);
  });

  Deno.test(`Link (${way}) says of each call that a cut ends whether it may have run`, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(3_000_000),
        fc.array(fc.constantFrom(10, 1000, 70_000, 900_000), { minLength: 1, maxLength: 12 }),
        async (cutAfter, sizes) => {
          const ran = new Set<number>();
          await using link = await linked(way, (call) => {
            ran.add(JSON.parse(call.text).n);
            return echo(call);
          });
          link.proxy.cutAfter(cutAfter);
          let answers = 0;
          await Promise.all(sizes.map(async (size, n) => {
            const request = JSON.stringify({ n, size, padding: "p".repeat(size) });
            try {
              assert.equal((await link.app.call(TARGET, request)).length, 2 - +(n < 10) + 1 + size);
              answers++;
            } catch (error) {
              assert(error instanceof LinkError, String(error));
              // What ran was never called unserved; the other way round is allowed.
              if (ran.has(n)) assert.equal(error.mayHaveRun, true);
            }
          }));
          if (answers < sizes.length) {
            await link.app.closed;
            const { mayHaveRun } = await failureOf(link.app.call(TARGET, "{}"));
            assert.equal(mayHaveRun, false);
            assert.equal(link.app.isOpen, false);
          }
        },
      ),
      { numRuns: 40 },
    );
  });

  Deno.test(`Link (${way}) knows that a call which was not wholly sent did not run`, async () => {
    await using link = await linked(way, echo);
    link.proxy.stall();
    // More than both windows: the rest waits here.
    const large = link.app.call(TARGET, JSON.stringify({ n: 1, padding: "x".repeat(2_000_000) }));
    const small = link.app.call(TARGET, `{"n":2}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
    link.proxy.cut();
    assert.equal((await failureOf(large)).mayHaveRun, false);
    assert.equal((await failureOf(small)).mayHaveRun, true);
  });

  Deno.test(`Link (${way}) finds out on both sides that a connection is half-open`, async () => {
    const quick = { pingEveryMs: 20, deadAfterMs: 100 };
    const aborted = Promise.withResolvers<void>();
    const served = Promise.withResolvers<void>();
    await using link = await linked(way, ({ signal }) => {
      served.resolve();
      return new Promise((_, reject) =>
        signal.addEventListener("abort", () => {
          aborted.resolve();
          reject(signal.reason);
        })
      );
    }, { app: quick, dtma: quick });
    const call = link.app.call(TARGET, "waits");
    await served.promise;
    link.proxy.stall();
    const { message, mayHaveRun } = await failureOf(call);
    assert.match(message, /the toolbox's DTMA was silent for/);
    assert.equal(mayHaveRun, true);
    await aborted.promise;
    assert.match(await link.dtma.closed, /the app was silent for/);
  });

  Deno.test(`Link (${way}) stays open while pings come, however quiet it is`, async () => {
    const quick = { pingEveryMs: 10, deadAfterMs: 200 };
    await using link = await linked(way, echo, { app: quick, dtma: quick });
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.equal(await link.app.call(TARGET, `{"n":1}`), "1:");
  });

  Deno.test(`Link (${way}) does not take a process that stood still for a silent peer`, async () => {
    const quick = { pingEveryMs: 20, deadAfterMs: 100 };
    await using link = await linked(way, echo, { app: quick, dtma: quick });
    for (const from = performance.now(); performance.now() < from + 500;);
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(await link.app.call(TARGET, `{"n":1}`), "1:");
  });

  Deno.test(`Link (${way}) measures round trip and the clocks' offset on both sides`, async () => {
    await using link = await linked(way, echo);
    await until(() => link.app.clockOffsetMs !== null && link.dtma.clockOffsetMs !== null);
    for (const end of [link.app, link.dtma]) {
      assert(end.roundTripMs! > 0);
      assert(Math.abs(end.clockOffsetMs!) <= end.roundTripMs! / 2 + 2, String(end.clockOffsetMs));
    }
    // The fastest of the round trips counts.
    link.app.measured(0.001, Date.now(), Date.now() + 5000);
    assert(Math.abs(link.app.clockOffsetMs! - 5000) < 50);
  });

  Deno.test(`Link (${way}) of two versions says which side to upgrade`, async () => {
    const old = { app: { version: 1 } }, older = { dtma: { version: 1 } };
    for (
      const [options, words] of [
        [old, /upgrade the app/],
        [older, /upgrade the toolbox's DTMA/],
      ] as const
    ) {
      const { message, isRefusal } = await failureOf(linked(way, echo, options));
      assert.match(message, words);
      assert.equal(isRefusal, true);
    }
  });

  Deno.test(`Link (${way}) that is ended finishes what is under way and takes no more`, async () => {
    for (const who of ["app", "dtma"] as const) {
      const held = Promise.withResolvers<string>();
      const served = Promise.withResolvers<void>();
      await using link = await linked(way, () => {
        served.resolve();
        return held.promise;
      });
      const call = link.app.call(TARGET, "waits");
      await served.promise;
      const ended = link[who].end("the test");
      // Under way while the other side does not know yet: refused unserved, whoever refuses it.
      const late = await failureOf(link.app.call(TARGET, "late"));
      assert.equal(late.mayHaveRun, false);
      held.resolve("done");
      assert.equal(await call, "done");
      await ended;
      await Promise.all([link.app.closed, link.dtma.closed]);
    }
  });

  Deno.test(`Link (${way}) that is ended does not wait for who listens`, async () => {
    for (const who of ["app", "dtma"] as const) {
      const served = Promise.withResolvers<void>();
      await using link = await linked(way, ({ signal }) => {
        served.resolve();
        return new Promise((_, reject) =>
          signal.addEventListener("abort", () => reject(signal.reason))
        );
      });
      const listening = failureOf(link.app.call(TARGET, "listens", { endsWithLink: true }));
      await served.promise;
      // Not by its time limit, which is half a minute.
      const reason = link[who].end("the test").then(() => link[who].closed);
      assert.match((await listening).message, /being closed/);
      assert.doesNotMatch(await reason, /the test/);
    }
  });

  Deno.test(`Link (${way}) passes a failure of the serving side as a call that may have run`, async () => {
    await using link = await linked(way, () => Promise.reject(new Error("It broke")));
    const { message, mayHaveRun } = await failureOf(link.app.call(TARGET, "{}"));
    assert.deepEqual([message, mayHaveRun], ["It broke", true]);
  });
}

Deno.test("Link checks the other side's proof over its own challenge", async () => {
  const challenges: string[] = [];
  const prove = (challenge: string) => (challenges.push(challenge), `signed ${challenge}`);
  const isProof = (challenge: string, proof: string) => proof === `signed ${challenge}`;
  for (let i = 0; i < 2; i++) {
    await using link = await linked("tunnel", echo, { app: { prove }, dtma: { isProof } });
    assert.equal(await link.app.call(TARGET, `{"n":1}`), "1:");
  }
  assert.notEqual(challenges[0], challenges[1]);
  for (const app of [{}, { prove: () => "signed something else" }]) {
    const { message, isRefusal } = await failureOf(
      linked("tunnel", echo, { app, dtma: { isProof } }),
    );
    assert.match(message, /the app did not prove/);
    assert.equal(isRefusal, true);
  }
});

Deno.test("Link closes on frames that break the protocol", async () => {
  const bad = [
    "",
    "x",
    "a1,1:x",
    "n1,1:x",
    "o1,5:x",
    "o1,zzzzzz:x",
    "o1,1:x",
    `o1,4:"a"\n`,
    "w1,1:0",
    "w0,2:-1",
    "w0,6:zzzzzz",
    "z0,0:",
    "p0,0",
  ];
  for (const text of bad) {
    const closed = Promise.withResolvers<string>();
    const http = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
      const { socket, response } = Deno.upgradeWebSocket(request);
      const options = { version: 2, self: "DTMA", peer: "the app", serve: echo };
      acceptedLink(linkSocket(socket), options)
        .then((link) => link.closed).then(closed.resolve, closed.reject);
      return response;
    });
    const socket = new WebSocket(`ws://127.0.0.1:${http.addr.port}/`);
    const closedHere = new Promise((resolve) => socket.onclose = resolve);
    socket.onopen = () => {
      const hello = JSON.stringify({ version: 2, time: 0 });
      socket.send(`h0,${hello.length.toString(36)}:${hello}`);
      socket.send(text || "?");
    };
    assert.match(await closed.promise, /broke the protocol/, text);
    await closedHere;
    await http.shutdown();
  }
});

Deno.test("Link closes on bytes that break the protocol", async () => {
  const bad: [serves: boolean, message: string][] = [
    [false, ""],
    [false, "\xff"],
    [false, "a1,1:x"],
    [false, "r1,2:x"],
    [false, "r1,1:xy"],
    [false, "r9,1:x"],
    [true, "r1,1:x"],
    [true, "o1,1:x"],
  ];
  for (const [serves, message] of bad) {
    const closed = Promise.withResolvers<string>();
    const http = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
      const { socket, response } = Deno.upgradeWebSocket(request);
      const options = {
        version: 2,
        self: "this",
        peer: "the other",
        serve: serves ? echo : undefined,
      };
      acceptedLink(linkSocket(socket), options).then((link) => {
        if (!serves) link.call(TARGET, "{}").catch(() => {});
        return link.closed;
      }).then(closed.resolve, closed.reject);
      return response;
    });
    const socket = new WebSocket(`ws://127.0.0.1:${http.addr.port}/`);
    const closedHere = new Promise((resolve) => socket.onclose = resolve);
    socket.onopen = () => {
      const hello = JSON.stringify({ version: 2, time: 0 });
      socket.send(`h0,${hello.length.toString(36)}:${hello}`);
    };
    // With its own hello the call is made.
    socket.onmessage = () => socket.send(Buffer.from(message, "latin1"));
    assert.match(await closed.promise, /broke the protocol/, message);
    await closedHere;
    await http.shutdown();
  }
});

Deno.test("Link asks no bytes of a result for an app that did not say that it takes them", async () => {
  const served = Promise.withResolvers<boolean>();
  const http = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request);
    acceptedLink(linkSocket(socket), {
      version: 2,
      self: "DTMA",
      peer: "the app",
      serve({ takesResultBytes }) {
        served.resolve(takesResultBytes === true);
        return Promise.resolve("");
      },
    });
    return response;
  });
  const socket = new WebSocket(`ws://127.0.0.1:${http.addr.port}/`);
  socket.onopen = () => {
    const hello = JSON.stringify({ version: 2, time: 0 });
    const opening = `${JSON.stringify(["server", null])}\n{}`;
    socket.send(`h0,${hello.length.toString(36)}:${hello}`);
    socket.send(`o1,${opening.length.toString(36)}:${opening}`);
  };
  assert.equal(await served.promise, false);
  const closed = new Promise((resolve) => socket.onclose = resolve);
  socket.close();
  await closed;
  await http.shutdown();
});

Deno.test("Link says what does not say hello", async () => {
  for (const text of ["hello", "h0,2:{}", `h0,5:{}`, "o1,0:"]) {
    const refused = Promise.withResolvers<void>();
    const http = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
      const { socket, response } = Deno.upgradeWebSocket(request);
      acceptedLink(linkSocket(socket), { version: 2, self: "DTMA", peer: "the app" })
        .then(() => refused.reject(new Error("made")), refused.reject);
      return response;
    });
    const socket = new WebSocket(`ws://127.0.0.1:${http.addr.port}/`);
    const closed = new Promise((resolve) => socket.onclose = resolve);
    socket.onopen = () => socket.send(text);
    await assert.rejects(refused.promise, /spoke something else/);
    await closed;
    await http.shutdown();
  }
});

Deno.test("Link closes on a peer that asks without end and reads nothing", async () => {
  const closed = Promise.withResolvers<string>();
  const http = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: 0 });
    acceptedLink(linkSocket(socket), { version: 2, self: "DTMA", peer: "the app" })
      .then((link) => link.closed).then(closed.resolve, closed.reject);
    return response;
  });
  const connection = await Deno.connect({ hostname: "127.0.0.1", port: http.addr.port });
  const write = async (bytes: Uint8Array) => {
    for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
  };
  /** A text frame of a client, masked with zeros. */
  const text = (payload: string) => {
    const frame = new Uint8Array(14 + payload.length);
    frame.set([0x81, 0x80 | 127]);
    new DataView(frame.buffer).setBigUint64(2, BigInt(payload.length));
    frame.set(new TextEncoder().encode(payload), 14);
    return frame;
  };
  await write(new TextEncoder().encode(
    "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${btoa("0123456789abcdef")}\r\n\r\n`,
  ));
  const hello = JSON.stringify({ version: 2, time: 0 });
  await write(text(`h0,${hello.length.toString(36)}:${hello}`));
  let isOver = false;
  closed.promise.finally(() => isOver = true);
  // It may be closed in the midst of a write.
  while (!isOver) await write(text("p0,1:1".repeat(50_000))).catch(() => {});
  assert.match(await closed.promise, /the app does not read/);
  connection.close();
  await http.shutdown();
});
