import { openOutside } from "../../models/outside.ts";
import assert from "node:assert/strict";
import { v7 } from "uuid";
import {
  DesiredResponse,
  EnrolResponse,
  generateSigningKey,
  type HostFacts,
  PROTOCOL_VERSION,
  prove,
  ROTATION,
  type SigningKey,
  signRequest,
} from "../../dtma/protocol.ts";
import { Changes } from "../../models/changes.ts";
import { listEvents } from "../../models/events.ts";
import { askForNewKey } from "../../models/fleet.ts";
import { createLog } from "../../models/log.ts";
import { deployServer, getServer } from "../../models/servers.ts";
import { listTools } from "../../models/tools.ts";
import { toolboxRoutes } from "../../routes/toolbox.ts";
import { KINDS, openWorld, testKey } from "../models/databases.ts";
import { observation } from "../models/observation.ts";

const options = { sanitizeResources: false, sanitizeOps: false };
const facts: HostFacts = {
  dtmaVersion: "0.1.0",
  protocolVersion: PROTOCOL_VERSION,
  reach: "direct",
  address: "http://127.0.0.1:41234",
  engine: { state: "absent", reason: "a test", advice: "none" },
};
const LIMIT_BYTES = 64 * 1024 * 1024;

/** The control path over HTTP in front of a database, and a toolbox's key. */
async function openControl() {
  const world = await openWorld(KINDS[0]);
  const { db } = world;
  const logged: string[] = [];
  const changes = new Changes(db);
  const appSigningKey = await generateSigningKey();
  const app = toolboxRoutes({
    db,
    changes,
    secretsKey: testKey,
    outside: openOutside(),
    appSigningKey,
    links: null,
    log: createLog("text", (line) => logged.push(line)),
  });
  const http = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, app.fetch);
  const base = `http://127.0.0.1:${http.addr.port}`;
  const key = await generateSigningKey();

  /** Sends a signed request; `change` alters it after it was signed. */
  async function send(
    path: string,
    body: unknown,
    { by = key, keyId = world.toolboxId, signal, change }: {
      by?: SigningKey;
      keyId?: string;
      signal?: AbortSignal;
      change?: (sent: Sent) => Partial<Sent>;
    } = {},
  ) {
    const bytes = typeof body === "string" || body instanceof Uint8Array
      ? typeof body === "string" ? new TextEncoder().encode(body) : new Uint8Array(body)
      : new TextEncoder().encode(JSON.stringify(body));
    const url = base + path;
    const signed: Sent = {
      url,
      body: bytes,
      headers: signRequest({ method: "POST", url, body: bytes }, {
        keyId,
        privateKey: by.privateKey,
      }),
    };
    const sent = { ...signed, ...change?.(signed) };
    const response = await fetch(sent.url, {
      method: "POST",
      headers: sent.headers,
      body: sent.body,
      signal,
    });
    return { status: response.status, body: await response.json() };
  }
  return {
    ...world,
    appSigningKey,
    changes,
    logged,
    key,
    base,
    send,
    enrol: (request: unknown) =>
      send("/toolbox/enrol", request, { change: () => ({ headers: {} }) }),
    desired: (haveVersion: string | null, waitMs: number, signal?: AbortSignal) =>
      send("/toolbox/desired", { facts, haveVersion, waitMs }, { signal }),
    deploy: async () =>
      (await deployServer(db, world.user, {
        workspaceId: world.workspaceId,
        toolboxId: world.toolboxId,
        slug: "everything",
        form: {},
        idempotencyKey: crypto.randomUUID(),
      }, testKey)).serverId,
    async [Symbol.asyncDispose]() {
      await http.shutdown();
      await changes.close();
      await world.close();
    },
  };
}

interface Sent {
  url: string;
  body: Uint8Array<ArrayBuffer>;
  headers: Record<string, string>;
}

Deno.test({
  name: "toolboxRoutes serve a toolbox's control path",
  ...options,
  async fn(t) {
    await using control = await openControl();
    const { db, user, owner, toolboxId, key, send, enrol, desired } = control;
    const enrolment = { token: control.enrolmentToken, publicKey: key.publicKey, facts };

    await t.step("enrol refuses another token, form or version, and keeps the token", async () => {
      const wrong = await enrol({ ...enrolment, token: `mte_${"A".repeat(43)}` });
      assert.equal(wrong.status, 403);
      assert.match(wrong.body.error, /token is not valid/);
      for (
        const [body, words] of [
          ["", /not JSON/],
          ["null", /./],
          [new Uint8Array([0x22, 0xff, 0x22]), /not JSON in UTF-8/],
          [{ ...enrolment, publicKey: "short" }, /^publicKey: /],
          [{ ...enrolment, facts: { ...facts, address: 7 } }, /^facts\.address: /],
          [
            { ...enrolment, facts: { ...facts, protocolVersion: "1" } },
            /^facts\.protocolVersion: /,
          ],
        ] as const
      ) {
        const { status, body: answer } = await enrol(body);
        assert.equal(status, 400, JSON.stringify(body));
        assert.match(answer.error, words);
      }
      const newer = await enrol({ ...enrolment, facts: { ...facts, protocolVersion: 99 } });
      assert.equal(newer.status, 426);
      assert.match(newer.body.error, /upgrade the app$/);
    });

    await t.step("a toolbox that is not enrolled is told 401", async () => {
      const { status, body } = await desired(null, 0);
      assert.equal(status, 401);
      assert.match(body.error, /key is not known/);
    });

    await t.step("enrol works once and gives the app's key", async () => {
      const { status, body } = await enrol(enrolment);
      assert.equal(status, 200);
      assert.deepEqual(EnrolResponse.parse(body), {
        toolboxId,
        appPublicKey: control.appSigningKey.publicKey,
      });
      assert.equal((await enrol(enrolment)).status, 403);
    });

    let version = "";
    await t.step("desired answers at once when the version is another", async () => {
      for (const have of [null, "another"]) {
        const { status, body } = await desired(have, 60_000);
        assert.equal(status, 200);
        DesiredResponse.parse(body);
        assert.deepEqual(body.servers, []);
        assert.equal(body.appPublicKey, control.appSigningKey.publicKey);
        version = body.version;
      }
    });

    await t.step("desired answers with the same version when its wait is over", async () => {
      for (const waitMs of [0, 200]) {
        const { status, body } = await desired(version, waitMs);
        assert.equal(status, 200);
        assert.equal(body.version, version);
      }
    });

    let serverId = "";
    await t.step("desired wakes on a deploy", async () => {
      const polls = Array.from({ length: 3 }, () => desired(version, 60_000));
      serverId = await control.deploy();
      for (const { status, body } of await Promise.all(polls)) {
        assert.equal(status, 200);
        assert.notEqual(body.version, version);
        assert.deepEqual(
          DesiredResponse.parse(body).servers.map((spec) => spec.serverId),
          [serverId],
        );
      }
      version = (await desired(null, 0)).body.version;
    });

    await t.step("desired lets go when its caller does", async () => {
      const gone = new AbortController();
      const poll = desired(version, 60_000, gone.signal);
      setTimeout(() => gone.abort(), 100);
      await assert.rejects(poll, { name: "AbortError" });
      // It holds neither the database nor the others up.
      assert.equal((await desired(version, 0)).status, 200);
    });

    await t.step("polls that say different things of the host do not wake each other", async () => {
      let count = 0;
      const stop = control.changes.watch(({ table }) => table === "toolboxes", () => count++);
      const saying = (clockOffsetMs: number) =>
        send("/toolbox/desired", {
          facts: { ...facts, clockOffsetMs },
          haveVersion: version,
          waitMs: 700,
        });
      await Promise.all([saying(1), saying(2), saying(3)]);
      // Those of the database may come later than the answers.
      while (count < 3) await new Promise((resolve) => setTimeout(resolve, 10));
      stop();
      assert.equal(count, 3);
    });

    await t.step("desired refuses malformed requests", async () => {
      for (
        const body of [
          "{",
          "[]",
          {},
          { facts, haveVersion: version },
          { facts, haveVersion: version, waitMs: 60_001 },
          { facts, haveVersion: version, waitMs: -1 },
          { facts, haveVersion: 7, waitMs: 0 },
          { haveVersion: version, waitMs: 0 },
        ]
      ) {
        assert.equal((await send("/toolbox/desired", body)).status, 400, JSON.stringify(body));
      }
    });

    await t.step("another protocol version is 426 and names the side, in any form", async () => {
      for (
        const [protocolVersion, side] of [[PROTOCOL_VERSION + 1, /upgrade the app$/], [
          PROTOCOL_VERSION - 1,
          /upgrade the toolbox's DTMA$/,
        ]] as const
      ) {
        for (
          const body of [
            { facts: { ...facts, protocolVersion }, haveVersion: version, waitMs: 0 },
            // What that version says instead is not known here.
            { facts: { protocolVersion, engine: "podman" }, have: [1] },
          ]
        ) {
          const { status, body: answer } = await send("/toolbox/desired", body);
          assert.equal(status, 426);
          assert.match(answer.error, side);
        }
      }
    });

    const request = { facts, haveVersion: version, waitMs: 0 };
    await t.step("unsigned, altered, replayed and stale requests are 401", async () => {
      const stranger = await generateSigningKey();
      const without = (name: string) => ({ headers }: Sent) => ({
        headers: Object.fromEntries(Object.entries(headers).filter(([key]) => key !== name)),
      });
      const created = (seconds: number) => ({ headers }: Sent) => ({
        headers: {
          ...headers,
          "signature-input": headers["signature-input"].replace(
            /created=\d+/,
            `created=${Math.floor(Date.now() / 1000) + seconds}`,
          ),
        },
      });
      for (
        const [what, change, words] of [
          ["unsigned", () => ({ headers: {} }), /not signed/],
          ["without a signature", without("signature"), /not signed/],
          ["without its input", without("signature-input"), /not signed/],
          ["without a digest", without("content-digest"), /not the one that was signed/],
          [
            "with another body",
            () => ({ body: new TextEncoder().encode(JSON.stringify({ ...request, waitMs: 1 })) }),
            /not the one that was signed/,
          ],
          [
            "to another path",
            () => ({ url: `${control.base}/toolbox/report` }),
            /does not match/,
          ],
          ["with a query", ({ url }: Sent) => ({ url: `${url}?a=1` }), /does not match/],
          ["of another time", created(5), /does not match/],
          ["too old", created(-120), /behind: check both clocks/],
          ["of the future", created(120), /ahead: check both clocks/],
        ] as [string, (sent: Sent) => Partial<Sent>, RegExp][]
      ) {
        const { status, body } = await send("/toolbox/desired", request, { change });
        assert.equal(status, 401, what);
        assert.match(body.error, words, what);
      }
      assert.equal((await send("/toolbox/desired", request, { by: stranger })).status, 401);
      for (const keyId of [v7(), "app", "x", "-".repeat(36)]) {
        assert.equal((await send("/toolbox/desired", request, { keyId })).status, 401, keyId);
      }

      let first: Sent | null = null;
      const kept = await send("/toolbox/desired", request, {
        change: (sent) => first = sent,
      });
      assert.equal(kept.status, 200);
      const replayed = await send("/toolbox/desired", request, { change: () => first! });
      assert.equal(replayed.status, 401);
      assert.match(replayed.body.error, /sent before/);
    });

    const epoch = v7();
    const report = (sequence: number, change: Record<string, unknown> = {}) => ({
      epoch,
      sequence,
      observations: [],
      events: [],
      removed: [],
      ...change,
    });
    const tool = { name: "t", inputSchema: { type: "object" }, unknown: [1] };

    await t.step("report is taken once, and an older one is not", async () => {
      const newest = report(5, { observations: [observation(serverId, 1, [tool])] });
      assert.deepEqual((await send("/toolbox/report", newest)).body, { accepted: true });
      assert.equal((await getServer(db, user, serverId)).status, "running");
      assert.deepEqual((await listTools(db, user, serverId)).map((each) => each.definition), [
        tool,
      ]);
      const emptied = { observations: [observation(serverId, 1, [])] };
      for (const late of [newest, report(5, emptied), report(4, emptied)]) {
        assert.deepEqual((await send("/toolbox/report", late)).body, { accepted: false });
      }
      assert.equal((await listTools(db, user, serverId))[0].state, "waiting");
    });

    await t.step("report refuses malformed ones whole", async () => {
      const seen = observation(serverId, 1, []);
      for (
        const body of [
          "",
          "null",
          "[]",
          `{"epoch":${"[".repeat(10_000)}`,
          report(-1),
          report(6.5),
          report(6, { epoch: "x" }),
          report(6, { removed: ["x"] }),
          report(6, { observations: [{ ...seen, generation: 0 }] }),
          report(6, { observations: [{ ...seen, layers: {} }] }),
          report(6, { observations: [{ ...seen, tools: [{ title: "no name" }] }] }),
          report(6, { observations: [seen, { ...seen, restarts: "many" }] }),
          report(6, { events: [{ serverId, message: "x" }] }),
        ]
      ) {
        const { status, body: answer } = await send("/toolbox/report", body);
        assert.equal(status, 400, JSON.stringify(body).slice(0, 100));
        assert.equal(typeof answer.error, "string");
      }
      assert.equal((await listTools(db, user, serverId))[0].state, "waiting");
    });

    await t.step("report refuses over 64 MiB, measured or not", async () => {
      const measured = await send("/toolbox/report", new Uint8Array(LIMIT_BYTES + 1));
      assert.equal(measured.status, 413);
      const chunk = new Uint8Array(1024 * 1024);
      let sent = 0;
      const endless = new ReadableStream<Uint8Array>({
        pull: (controller) => (sent++, controller.enqueue(chunk)),
      });
      const response = await fetch(`${control.base}/toolbox/report`, {
        method: "POST",
        body: endless,
      });
      assert.equal(response.status, 413);
      assert.match((await response.json()).error, /too large/);
      assert.ok(sent < 200, `${sent} MiB were taken`);
    });

    await t.step("report takes names and texts of any kind", async () => {
      const odd = ["__proto__", "\u0000", "\ud800", "🧭".repeat(600), "'; drop table tools; --"]
        .map((name) => ({ name, description: "\u0000\ud800" }));
      const { status, body } = await send(
        "/toolbox/report",
        report(7, { observations: [observation(serverId, 1, odd)] }),
      );
      assert.deepEqual([status, body], [200, { accepted: true }]);
      const [cut] = (await listTools(db, user, serverId)).filter(({ name }) => name === "\ufffd");
      assert.equal(cut.definition.description, "\u0000\ufffd");
      // A pair stays a pair, and an escaped backslash is no escape.
      const texts = String.raw`"a\ud83e\udded", "\\ud800", "\\\ud800", "\udded\ud83e"`;
      const raw = JSON.stringify(report(8, { observations: [observation(serverId, 1, [tool])] }))
        .replace(`"unknown":[1]`, `"unknown":[${texts}]`);
      assert.equal((await send("/toolbox/report", raw)).status, 200);
      const read = await listTools(db, user, serverId);
      assert.deepEqual(
        read.find(({ name }) => name === "t")!.definition.unknown,
        ["a🧭", "\\ud800", "\\\ufffd", "\ufffd\ufffd"],
      );
      const seen = observation(serverId, 1, [tool]);
      seen.layers.tools = { ...seen.layers.tools, detail: "cut \ud83e" };
      seen.logTail = ["\ud83e"];
      assert.equal(
        (await send("/toolbox/report", report(9, { observations: [seen] }))).status,
        200,
      );
    });

    await t.step("other methods and paths are not served", async () => {
      for (const [method, path] of [["GET", "/toolbox/desired"], ["POST", "/toolbox/other"]]) {
        const response = await fetch(control.base + path, { method });
        assert.equal(response.status, 404, `${method} ${path}`);
        await response.body?.cancel();
      }
    });

    await t.step("of two DTMAs with one key the one that started later stays", async () => {
      const [before, after] = [v7(), v7()];
      const poll = (epoch: string, haveVersion: string | null = null, waitMs = 0) =>
        send("/toolbox/desired", { facts, haveVersion, waitMs, epoch });
      const { status, body } = await poll(before);
      assert.equal(status, 200);
      // Looks of one DTMA that overlap are one DTMA.
      const many = await Promise.all(Array.from({ length: 5 }, () => poll(before)));
      assert.deepEqual(many.map((each) => each.status), [200, 200, 200, 200, 200]);

      const waiting = poll(before, body.version, 60_000);
      const same = await Promise.all(Array.from({ length: 5 }, () => poll(after)));
      assert.deepEqual(same.map((each) => each.status), [200, 200, 200, 200, 200]);
      // The first one's long poll ends by that, not by its time.
      const told = await waiting;
      assert.equal(told.status, 409);
      assert.equal(told.body.error, "Another DTMA with this toolbox's key started later");
      assert.equal((await poll(before)).status, 409);
      const late = { epoch: before, sequence: 99, observations: [], events: [], removed: [] };
      assert.deepEqual((await send("/toolbox/report", late)).body, { accepted: false });
      const first = { ...late, epoch: after, sequence: 0 };
      assert.deepEqual((await send("/toolbox/report", first)).body, { accepted: true });
      assert.equal((await poll(after)).status, 200);
      assert.equal((await desired(null, 0)).status, 200, "one that names no start");
      const events = await listEvents(db, user, { toolboxId });
      assert.equal(events.filter(({ message }) => /^Two DTMAs ran/.test(message)).length, 1);
    });

    await t.step("rotate swaps the key for one that is proven, and says so again", async () => {
      const next = await generateSigningKey(), stranger = await generateSigningKey();
      const body = (by: SigningKey, publicKey = by.publicKey, id = toolboxId) => ({
        publicKey,
        proof: prove(ROTATION, id, by.privateKey),
      });
      for (
        const [what, wrong] of [
          ["another's key", body(next, stranger.publicKey)],
          ["a proof for another toolbox", body(next, next.publicKey, v7())],
          ["no proof", { publicKey: next.publicKey }],
          ["no key", { ...body(next), publicKey: "short" }],
        ] as const
      ) assert.equal((await send("/toolbox/rotate", wrong)).status, 400, what);
      assert.equal((await send("/toolbox/rotate", body(next), { by: next })).status, 401);
      assert.equal((await send("/toolbox/rotate", body(stranger), { by: stranger })).status, 401);

      const { version: have } = (await desired(null, 0)).body;
      assert.equal("rotateKey" in (await desired(null, 0)).body, false);
      const waiting = desired(have, 60_000);
      await askForNewKey(db, user, toolboxId);
      assert.equal((await waiting).body.rotateKey, true);

      const swapped = await send("/toolbox/rotate", body(next));
      assert.deepEqual(swapped, { status: 200, body: { publicKey: next.publicKey } });
      const refused = await desired(null, 0);
      assert.equal(refused.status, 401);
      assert.match(refused.body.error, /signature does not match/);
      // The answer was lost: asked again, by the new key.
      assert.deepEqual(await send("/toolbox/rotate", body(next), { by: next }), swapped);
      const now = await send("/toolbox/desired", { facts, haveVersion: null, waitMs: 0 }, {
        by: next,
      });
      assert.equal("rotateKey" in now.body, false);
      assert.equal((await send("/toolbox/rotate", body(key), { by: next })).status, 200);
      const told = (await listEvents(db, user, { toolboxId })).map(({ message }) => message);
      assert.equal(told.filter((message) => message === "Changed its key").length, 2);
    });

    await t.step("a revoked toolbox is 401, while it waits too", async () => {
      const { version } = (await desired(null, 0)).body;
      const poll = desired(version, 60_000);
      await owner`update public.toolboxes set revoked_at = now() where id = ${toolboxId}`;
      assert.equal((await poll).status, 401);
      assert.equal((await send("/toolbox/desired", request)).status, 401);
      assert.equal((await send("/toolbox/report", report(10))).status, 401);
    });

    const failures = control.logged.filter((line) => line.includes("ERROR"));
    assert.deepEqual(failures, [], "none of it is Mooring's own failure");
  },
});
