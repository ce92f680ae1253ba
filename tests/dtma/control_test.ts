// The app here is a fake of its documented wire (dtma/protocol.ts): a real HTTP server that checks
// signatures, holds long polls and can be told to fail.
import assert from "node:assert/strict";
import { AppClient } from "../../dtma/app_client.ts";
import {
  DesiredPull,
  enrol,
  EnrolmentError,
  nextEpoch,
  OvertakenError,
  Reporter,
  RevokedError,
} from "../../dtma/control.ts";
import {
  DesiredRequest,
  EnrolRequest,
  generateSigningKey,
  type HostFacts,
  memoryNonces,
  OVERTAKEN,
  Report,
  SignatureError,
  verifyRequest,
} from "../../dtma/protocol.ts";

const TOOLBOX = "01890000-0000-7000-8000-00000000000a";
const SERVER = "01890000-0000-7000-8000-00000000000b";
const EPOCH = "01890000-0000-7000-8000-00000000000c";
const TOKEN = "token-of-enough-length";
const key = await generateSigningKey();
const log = () => {};

const FACTS: HostFacts = {
  dtmaVersion: "0.1.0",
  protocolVersion: 1,
  reach: "direct",
  address: "http://127.0.0.1:1",
  engine: { state: "absent", reason: "None here", advice: "Install one" },
};

class FakeApp implements AsyncDisposable {
  requests: string[] = [];
  enrolments: unknown[] = [];
  reports: Report[] = [];
  pulls: DesiredRequest[] = [];
  version = "1";
  servers: unknown[] = [];
  /** Answers given before the real ones, in order. */
  failures: (Response | "close")[] = [];
  #wake = Promise.withResolvers<void>();
  #nonces = memoryNonces();
  readonly #http: Deno.HttpServer<Deno.NetAddr>;
  readonly url: string;

  constructor(port = 0) {
    const options = { hostname: "127.0.0.1", port, onListen: () => {} };
    this.#http = Deno.serve(options, (request) => this.#serve(request));
    this.url = `http://127.0.0.1:${this.#http.addr.port}/functions/app`;
  }

  change(version: string, servers: unknown[] = []): void {
    this.version = version;
    this.servers = servers;
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }

  async #serve(request: Request): Promise<Response> {
    const path = new URL(request.url).pathname;
    this.requests.push(path);
    const body = await request.bytes();
    const failure = this.failures.shift();
    if (failure === "close") throw new Error("The connection is cut");
    if (failure) return failure;
    const json = JSON.parse(new TextDecoder().decode(body));
    if (path === "/functions/app/toolbox/enrol") {
      this.enrolments.push(EnrolRequest.parse(json));
      return Response.json({ toolboxId: TOOLBOX, appPublicKey: "A".repeat(43) });
    }
    try {
      const known = (id: string) => id === TOOLBOX ? key.publicKey : null;
      await verifyRequest(request, body, known, this.#nonces);
    } catch (error) {
      if (!(error instanceof SignatureError)) throw error;
      return Response.json({ error: error.message }, { status: 401 });
    }
    if (path === "/functions/app/toolbox/report") {
      const report = Report.parse(json);
      const last = this.reports.at(-1);
      const isNew = !last || report.epoch > last.epoch ||
        report.epoch === last.epoch && report.sequence > last.sequence;
      if (isNew) this.reports.push(report);
      return Response.json({ accepted: isNew });
    }
    const pull = DesiredRequest.parse(json);
    this.pulls.push(pull);
    if (pull.haveVersion === this.version) {
      const timer = Promise.withResolvers<void>();
      const id = setTimeout(timer.resolve, pull.waitMs);
      request.signal.addEventListener("abort", () => timer.resolve());
      await Promise.race([this.#wake.promise, timer.promise]);
      clearTimeout(id);
    }
    return Response.json({
      version: this.version,
      appPublicKey: "A".repeat(43),
      servers: this.servers,
    });
  }

  async [Symbol.asyncDispose]() {
    this.#wake.resolve();
    await this.#http.shutdown();
  }
}

const toolboxKey = { keyId: TOOLBOX, privateKey: key.privateKey };

function observation(detail: string, serverId = SERVER) {
  const layer = { state: "ready" as const, detail, since: new Date().toISOString() };
  return {
    serverId,
    generation: 1,
    layers: { image: layer, container: layer, handshake: layer, tools: layer },
    imageDigest: null,
    containerId: null,
    serverInfo: null,
    restarts: 0,
    servingGeneration: null,
    gaveUp: false,
    health: null,
    instances: [],
    sandbox: null,
    unsandboxed: null,
    volumes: [],
    logTail: [],
    tools: null,
  };
}

function event(message: string, level: "info" | "error" = "info") {
  const at = new Date().toISOString();
  return { serverId: SERVER, generation: 1, at, layer: "image" as const, level, message };
}

/** Runs something until the test body is done. */
async function during(
  run: (signal: AbortSignal) => Promise<void>,
  body: () => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const running = run(stop.signal);
  try {
    await Promise.race([body(), running.then(() => Promise.reject(new Error("It ended")))]);
  } finally {
    stop.abort();
    await running.catch(() => {});
  }
}

async function waitFor(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

const noRotation = { rotate: () => Promise.resolve(), settle: () => Promise.resolve() };

function pullFrom(
  app: FakeApp,
  applied: unknown[][],
  waitMs = 20_000,
  rotation: { rotate: () => Promise<void>; settle: () => Promise<void> } = noRotation,
) {
  return new DesiredPull({
    client: new AppClient(app.url),
    key: toolboxKey,
    facts: () => Promise.resolve(FACTS),
    onDesired: ({ servers }) => applied.push(servers),
    onAppKey: () => {},
    epoch: EPOCH,
    rotation,
    waitMs,
    log,
  });
}

Deno.test("enrol trades the token for an id, and tries again when the app fails", async () => {
  await using app = new FakeApp();
  app.failures = [new Response("Bad gateway", { status: 502 }), "close"];
  const request = { token: TOKEN, publicKey: key.publicKey, facts: () => Promise.resolve(FACTS) };
  const logged: string[] = [];
  const answer = await enrol(new AppClient(app.url), request, {
    signal: new AbortController().signal,
    log: (_, line) => logged.push(line),
  });
  assert.deepEqual(answer, { toolboxId: TOOLBOX, appPublicKey: "A".repeat(43) });
  assert.equal(app.enrolments.length, 1);
  assert.equal(logged.length, 2);
  assert.match(logged[0], /502: Bad gateway/);
});

Deno.test("enrol gives up when the token is refused, and says what to do", async () => {
  await using app = new FakeApp();
  app.failures = [
    new Response("<html>Forbidden by a proxy</html>", { status: 403 }),
    Response.json({ error: "The enrolment token is not valid" }, { status: 403 }),
  ];
  const request = { token: TOKEN, publicKey: key.publicKey, facts: () => Promise.resolve(FACTS) };
  const options = { signal: new AbortController().signal, log };
  await assert.rejects(enrol(new AppClient(app.url), request, options), (error) => {
    assert(error instanceof EnrolmentError);
    assert.match(error.message, /token is not valid.*new enrolment token/);
    return true;
  });
});

Deno.test("DesiredPull gets the set at once, waits, and is woken by a change", async () => {
  await using app = new FakeApp();
  const applied: unknown[][] = [];
  const pull = pullFrom(app, applied);
  await during((signal) => pull.run(signal), async () => {
    await waitFor(() => app.pulls.length === 2);
    assert.deepEqual(applied, [[]]);
    assert.deepEqual(app.pulls.map((each) => each.haveVersion), [null, "1"]);
    app.change("2");
    await waitFor(() => applied.length === 2);
    // A wake asks again with the facts of now, and applies nothing that it has.
    await waitFor(() => app.pulls.length === 3);
    pull.wake();
    await waitFor(() => app.pulls.length === 4);
    assert.equal(app.pulls[3].haveVersion, "2");
    assert.equal(applied.length, 2);
  });
});

Deno.test("DesiredPull asks again after failures, and after the app's restart", async () => {
  const applied: unknown[][] = [];
  const first = new FakeApp();
  const port = Number(new URL(first.url).port);
  first.failures = [
    new Response(null, { status: 500 }),
    new Response("not json"),
    Response.json({ version: 5 }),
    Response.json({ version: "x", servers: [{ serverId: "nonsense" }] }),
  ];
  const pull = pullFrom(first, applied);
  await during((signal) => pull.run(signal), async () => {
    const hurry = setInterval(() => applied.length === 0 && pull.wake(), 50);
    await waitFor(() => applied.length === 1);
    clearInterval(hurry);
    await first[Symbol.asyncDispose]();
    await using second = new FakeApp(port);
    second.version = "2";
    await waitFor(() => applied.length === 2);
    assert.equal(second.pulls[0].haveVersion, "1");
  });
});

Deno.test("DesiredPull names its start, and ends when another DTMA started later", async () => {
  await using app = new FakeApp();
  app.failures = [
    new Response(`A proxy's page: ${OVERTAKEN}`, { status: 409 }),
    Response.json({ error: "The key was changed meanwhile" }, { status: 409 }),
  ];
  const applied: unknown[][] = [];
  const pull = pullFrom(app, applied);
  await during((signal) => pull.run(signal), async () => {
    const hurry = setInterval(() => applied.length === 0 && pull.wake(), 50);
    await waitFor(() => applied.length === 1);
    clearInterval(hurry);
  });
  assert.equal(app.pulls[0].epoch, EPOCH);
  app.failures = [Response.json({ error: OVERTAKEN }, { status: 409 })];
  await assert.rejects(pullFrom(app, []).run(new AbortController().signal), OvertakenError);
});

Deno.test("DesiredPull changes the key when asked, and settles it when the app knows another", async () => {
  await using app = new FakeApp();
  const done: string[] = [];
  const rotation = {
    rotate: () => Promise.resolve(void done.push("rotate")),
    settle: () => Promise.resolve(void done.push("settle")),
  };
  app.failures = [
    Response.json({ error: "The signature does not match" }, { status: 401 }),
    Response.json({ version: "1", appPublicKey: "A".repeat(43), servers: [], rotateKey: true }),
  ];
  const applied: unknown[][] = [];
  const pull = pullFrom(app, applied, 20_000, rotation);
  await during((signal) => pull.run(signal), async () => {
    await waitFor(() => app.pulls.length > 0);
    assert.deepEqual(done, ["settle", "rotate"]);
    assert.deepEqual(applied, [[]], "what is desired goes first");
  });
});

Deno.test("DesiredPull ends when the toolbox is revoked, but not for a clock that is wrong", async () => {
  await using app = new FakeApp();
  app.failures = [
    Response.json({ error: "The request's time is 90 s behind: check both clocks" }, {
      status: 401,
    }),
    new Response("A proxy's page: access was revoked", { status: 403 }),
    Response.json({ error: "This toolbox was revoked" }, { status: 403 }),
  ];
  await assert.rejects(
    pullFrom(app, []).run(new AbortController().signal),
    (error) => error instanceof RevokedError && /was revoked/.test(error.message),
  );
  assert.equal(app.requests.length, 3);
});

Deno.test("DesiredPull does not read an answer without end", async () => {
  await using app = new FakeApp();
  const endless = () => {
    const chunk = new Uint8Array(1024 * 1024).fill(0x20);
    return new Response(
      new ReadableStream({ pull: (controller) => controller.enqueue(chunk) }),
    );
  };
  app.failures = [endless()];
  const applied: unknown[][] = [];
  await during(
    (signal) => pullFrom(app, applied).run(signal),
    () => waitFor(() => applied.length === 1),
  );
});

Deno.test("Reporter sends the newest observation and all events, in order", async () => {
  await using app = new FakeApp();
  const epoch = nextEpoch(null);
  const reporter = new Reporter({ client: new AppClient(app.url), key: toolboxKey, epoch, log });
  await during((signal) => reporter.run(signal), async () => {
    for (let n = 0; n < 50; n++) {
      reporter.observe(observation(`state ${n}`));
      reporter.event(event(`event ${n}`));
    }
    await waitFor(() => app.reports.length === 1);
    const [report] = app.reports;
    assert.deepEqual([report.epoch, report.sequence], [epoch, 0]);
    assert.deepEqual(report.observations.map((each) => each.layers.image!.detail), ["state 49"]);
    assert.deepEqual(
      report.events.map((each) => each.message),
      Array.from({ length: 50 }, (_, n) => `event ${n}`),
    );
    reporter.observe(observation("going"));
    reporter.removed(SERVER);
    await waitFor(() => app.reports.length === 2);
    assert.deepEqual(app.reports[1].removed, [SERVER]);
    assert.deepEqual(app.reports[1].observations, []);
  });
});

Deno.test("Reporter sends a report until the app has it, unchanged, and then the rest", async () => {
  await using app = new FakeApp();
  app.failures = ["close", new Response(null, { status: 503 })];
  const client = new AppClient(app.url);
  const reporter = new Reporter({ client, key: toolboxKey, epoch: nextEpoch(null), log });
  await during((signal) => reporter.run(signal), async () => {
    reporter.event(event("first"));
    await waitFor(() => app.requests.length === 1);
    reporter.event(event("second"));
    await waitFor(() => app.reports.length === 2);
    assert.deepEqual(
      app.reports.map(({ sequence, events }) => [sequence, events.map((each) => each.message)]),
      [[0, ["first"]], [1, ["second"]]],
    );
  });
});

Deno.test("Reporter goes on when the app had a report already or cannot take one", async () => {
  await using app = new FakeApp();
  app.failures = [
    Response.json({ accepted: false }),
    Response.json({ error: "No such field" }, { status: 422 }),
  ];
  const logged: string[] = [];
  const reporter = new Reporter({
    client: new AppClient(app.url),
    key: toolboxKey,
    epoch: nextEpoch(null),
    log: (level, line) => logged.push(`${level} ${line}`),
  });
  await during((signal) => reporter.run(signal), async () => {
    for (const message of ["one", "two", "three"]) {
      reporter.event(event(message));
      const count = app.requests.length;
      await waitFor(() => app.requests.length > count);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await waitFor(() => app.reports.length === 1);
    assert.deepEqual(app.reports[0].events.map((each) => each.message), ["three"]);
    assert.match(logged.join("\n"), /error The app cannot take report 1: No such field/);
  });
});

Deno.test("Reporter drops the oldest infos aloud when the app is away for long", async () => {
  await using app = new FakeApp();
  const logged: string[] = [];
  const reporter = new Reporter({
    client: new AppClient(app.url),
    key: toolboxKey,
    epoch: nextEpoch(null),
    log: (_, line) => logged.push(line),
  });
  reporter.event(event("kept", "error"));
  for (let n = 0; n < 10_010; n++) reporter.event(event(`event ${n}`));
  await during((signal) => reporter.run(signal), () => waitFor(() => app.reports.length === 10));
  const messages = app.reports.flatMap((report) => report.events).map((each) => each.message);
  assert.equal(messages.length, 10_000);
  assert.deepEqual([messages[0], messages[1], messages.at(-1)], [
    "kept",
    "event 11",
    "event 10009",
  ]);
  assert.match(logged[0], /^11 events were dropped/);
});

Deno.test("Reporter sends what is left when it is stopped, for a bounded time", async () => {
  await using app = new FakeApp();
  const client = new AppClient(app.url);
  const reporter = new Reporter({ client, key: toolboxKey, epoch: nextEpoch(null), log });
  const stop = new AbortController();
  const running = reporter.run(stop.signal);
  reporter.event(event("last words"));
  stop.abort();
  await running;
  assert.equal(app.reports[0].events[0].message, "last words");

  const logged: string[] = [];
  const unheard = new Reporter({
    client: new AppClient("http://127.0.0.1:1"),
    key: toolboxKey,
    epoch: nextEpoch(null),
    log: (_, line) => logged.push(line),
  });
  unheard.event(event("nobody hears"));
  await unheard.run(AbortSignal.abort(), 50);
  assert.match(logged.at(-1)!, /has not accepted/);
});

Deno.test("Reporter ends when the toolbox is revoked", async () => {
  await using app = new FakeApp();
  app.failures = [Response.json({ error: "The key is not known here" }, { status: 401 })];
  const client = new AppClient(app.url);
  const reporter = new Reporter({ client, key: toolboxKey, epoch: nextEpoch(null), log });
  reporter.event(event("anything"));
  await assert.rejects(reporter.run(new AbortController().signal), RevokedError);
});

Deno.test("AppClient follows no redirect", async () => {
  await using app = new FakeApp();
  app.failures = [Response.redirect("http://example.com/", 307)];
  await assert.rejects(
    new AppClient(app.url).post("/toolbox/report", {}, { timeoutMs: 5000, limitBytes: 1000 }),
    /redirects to http:\/\/example.com/,
  );
});

Deno.test("nextEpoch sorts after the one before, even when the clock went back", () => {
  const future = "ffffffff-0000-7000-8000-000000000000";
  assert(nextEpoch(future) > future);
  const now = nextEpoch(null);
  assert(nextEpoch(now) > now);
});
