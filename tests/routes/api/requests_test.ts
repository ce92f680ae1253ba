import assert from "node:assert/strict";
import { IN_FLIGHT_LIMIT } from "../../../mcp/limits.ts";
import { sealSecret } from "../../../models/secrets.ts";
import { tokenHash } from "../../../models/tokens.ts";
import { testKey } from "../../models/databases.ts";
import { openApi, type Reply } from "./app.ts";

const TOKEN = "GITHUB_PERSONAL_ACCESS_TOKEN";
const GITHUB = { entry: "github", inputs: { [TOKEN]: "ghp_secret" } };

function assertProblem({ status, headers, body, text }: Reply, wanted: number, kind: string) {
  assert.equal(status, wanted, text);
  assert.equal(headers.get("content-type"), "application/problem+json");
  assert.match(body.type, new RegExp(`/api#${kind}$`));
  assert.equal(body.status, wanted);
  assert.ok(body.title && body.detail);
  assert.equal(headers.get("cache-control"), "no-store");
}

Deno.test({
  name: "requests to the API",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    await using api = await openApi();
    const { db, owner, user, workspaceId } = api;
    const token = await api.tokenOf("owner");

    await t.step("without a token that holds are refused, whatever they ask for", async () => {
      for (const path of ["/me", "/servers", "/nothing", "/servers/x"]) {
        const reply = await api.send(null, "GET", path);
        assertProblem(reply, 401, "unauthenticated");
        assert.equal(reply.headers.get("www-authenticate"), "Bearer");
      }
      const agents = await api.send(null, "GET", "/me", undefined, {
        authorization: `Bearer mag_${"A".repeat(43)}`,
      });
      assertProblem(agents, 401, "unauthenticated");
      const cut = token.slice(0, -1);
      assertProblem(await api.send(cut, "GET", "/me"), 401, "unauthenticated");
      const made = await api.identity.createAccount("c@e.com", "C", "a long enough password");
      const cookie = made.getSetCookie()[0].split(";")[0];
      // A page of another site could send a cookie along; it has no token to send.
      assertProblem(
        await api.send(null, "GET", "/me", undefined, { cookie }),
        401,
        "unauthenticated",
      );
    });

    await t.step("with an expired or revoked token, or one of who left, are refused", async () => {
      const expired = await api.tokenOf("admin");
      await owner`update public.personal_tokens set expires_at = now() - interval '1 second'
        where user_id = ${api.people.admin.userId}`;
      assertProblem(await api.send(expired, "GET", "/me"), 401, "unauthenticated");
      const left = await api.tokenOf("viewer");
      assert.equal((await api.send(left, "GET", "/me")).status, 200);
      await owner`delete from public.members where user_id = ${api.people.viewer.userId}`;
      assertProblem(await api.send(left, "GET", "/me"), 401, "unauthenticated");
    });

    await t.step(
      "of a token act in its workspace alone, in which its person is another",
      async () => {
        const there = await api.tokenOf("owner", ["read"], api.other.workspaceId);
        const theirs = await api.deployElsewhere();
        assert.equal((await api.send(there, "GET", `/servers/${theirs}`)).status, 200);
        assertProblem(await api.send(token, "GET", `/servers/${theirs}`), 404, "not-found");
      },
    );

    await t.step("hostile bodies are refused, each for its reason", async () => {
      const send = (body: unknown, headers: Record<string, string> = {}) =>
        api.send(token, "POST", "/agents", body, headers);
      const text = { "content-type": "text/plain" };
      const form = { "content-type": "application/x-www-form-urlencoded" };
      for (
        const [body, headers, status, kind] of [
          ["{", {}, 400, "malformed"],
          ["[]", {}, 400, "malformed"],
          ["null", {}, 400, "malformed"],
          ['"x"', {}, 400, "malformed"],
          [new Uint8Array([0x7b, 0xff, 0x7d]), {}, 400, "malformed"],
          [`{"name":${"[".repeat(100_000)}${"]".repeat(100_000)}}`, {}, 400, "malformed"],
          ['{"name":"x"}', text, 415, "media-type"],
          ["name=x", form, 415, "media-type"],
          [`{"name":"${"x".repeat(9 * 1024 * 1024)}"}`, {}, 413, "too-large"],
          [{}, {}, 422, "invalid"],
          [{ name: 1 }, {}, 422, "invalid"],
          [{ name: "" }, {}, 422, "invalid"],
          [{ name: "x".repeat(81) }, {}, 422, "invalid"],
          [{ name: "a\u0000b" }, {}, 422, "invalid"],
          [{ name: "x", role: "owner" }, {}, 422, "invalid"],
          ['{"name":"x","__proto__":{"deniesByDefault":true}}', {}, 422, "invalid"],
          [{ name: "x", presents: "all" }, {}, 422, "invalid"],
        ] as const
      ) {
        const reply = await send(body, headers);
        assertProblem(reply, status, kind);
      }
      const several = await send({ nam: "x", presents: 1 });
      assert.deepEqual(
        several.body.errors.map(({ pointer }: { pointer: string }) => pointer).toSorted(),
        ["#/nam", "#/name", "#/presents"],
      );
      assert.equal((await api.send(token, "GET", "/agents")).body.items.length, 0);
    });

    await t.step("a NUL in a text that is stored is refused, not a failure", async () => {
      const { id } = (await api.send(token, "POST", "/agents", { name: "Nul" })).body;
      const reply = await api.send(token, "POST", "/servers", {
        ...GITHUB,
        inputs: { [TOKEN]: "a\u0000b" },
      });
      assertProblem(reply, 422, "invalid");
      assert.equal(reply.body.errors[0].pointer, `#/inputs/env.${TOKEN}`);
      const search = await api.send(token, "GET", "/catalog?query=a%00b");
      assert.ok([200, 422].includes(search.status), search.text);
      for (const path of ["/catalog/%00", "/servers/%00", `/agents/${id}/connections/%00`]) {
        assertProblem(await api.send(token, "GET", path), 404, "not-found");
      }
      await api.send(token, "DELETE", `/agents/${id}`);
    });

    await t.step("a query's members are read as what they are, once each", async () => {
      for (
        const path of [
          "/servers?limit=0",
          "/servers?limit=201",
          "/servers?limit=x",
          "/servers?limit=1e2",
          "/servers?limit=1&limit=2",
          "/servers?nonsense=1",
          "/servers?cursor=nonsense",
          "/servers?cursor=bnVsbA",
          "/calls?cursor=%F0%9F%98%80",
          "/servers?status=dancing",
        ]
      ) assertProblem(await api.send(token, "GET", path), 422, "invalid");
      assert.equal((await api.send(token, "GET", "/catalog?query=1")).status, 200, "a text");
    });

    await t.step("what is not there is not found, also where no path names it", async () => {
      const none = crypto.randomUUID();
      for (
        const [method, path, body] of [
          ["GET", `/calls?agent=${none}`],
          ["GET", `/calls/summary?server=${none}`],
          ["POST", "/conversations", { agent: none, text: "Ahoy" }],
          ["POST", "/servers/api", { document: none, operations: ["x"] }],
          ["POST", "/servers", { ...GITHUB, toolboxId: none }],
          ["POST", "/servers", { entry: "nothing-of-the-kind" }],
        ] as const
      ) assertProblem(await api.send(token, method, path, body), 404, "not-found");
    });

    await t.step("another method, or no path, is told from what is not found", async () => {
      const reply = await api.send(token, "PUT", "/servers", {});
      assertProblem(reply, 405, "method");
      assert.equal(reply.headers.get("allow"), "GET, POST");
      assertProblem(await api.send(token, "GET", "/nothing"), 404, "not-found");
    });

    await t.step(
      "sent again with their key make nothing more, and are answered alike",
      async () => {
        const key = { "idempotency-key": "a key" };
        assertProblem(
          await api.send(token, "POST", "/agents", { name: "x" }, { "idempotency-key": "é" }),
          400,
          "malformed",
        );
        const quoted = { "idempotency-key": '"a-key"' }, plain = { "idempotency-key": "a-key" };
        assertProblem(
          await api.send(token, "POST", "/agents", { name: "x" }, key),
          400,
          "malformed",
        );
        const first = await api.send(token, "POST", "/agents", { name: "Once" }, quoted);
        const again = await api.send(token, "POST", "/agents", { name: "Once" }, plain);
        assert.equal(first.status, 201);
        assert.equal(again.text, first.text);
        assert.equal(again.headers.get("idempotency-replayed"), "true");
        const other = await api.send(token, "POST", "/agents", { name: "Other" }, plain);
        assertProblem(other, 422, "invalid");
        // Another person's key is their own.
        const theirs = await api.send(
          await api.tokenOf("member"),
          "POST",
          "/agents",
          { name: "Once" },
          plain,
        );
        assert.notEqual(theirs.body.id, first.body.id);
      },
    );

    await t.step("many at once with one key make one server", async () => {
      const key = { "idempotency-key": crypto.randomUUID() };
      const replies = await Promise.all(
        Array.from({ length: 8 }, () => api.send(token, "POST", "/servers", GITHUB, key)),
      );
      const ids = new Set(
        replies.filter(({ status }) => status === 201).map(({ body }) => body.id),
      );
      assert.equal(ids.size, 1);
      assert.ok(replies.every(({ status }) => status === 201 || status === 409));
      const listed = await api.send(token, "GET", "/servers");
      assert.equal(listed.body.items.length, 1);
    });

    await t.step("one that failed made nothing, and its key serves again", async () => {
      const key = { "idempotency-key": "again" };
      const bad = { entry: "github", inputs: {} };
      assertProblem(await api.send(token, "POST", "/servers", bad, key), 422, "invalid");
      const reply = await api.send(token, "POST", "/servers", { ...GITHUB, name: "Two" }, key);
      assert.equal(reply.status, 201, reply.text);
    });

    await t.step("a token that is shown once is kept sealed for who asks again", async () => {
      const { id } = (await api.send(token, "POST", "/agents", { name: "Sealed" })).body;
      const ask = () =>
        api.send(token, "POST", `/agents/${id}/tokens`, { name: "t" }, {
          "idempotency-key": "token",
        });
      const made = await ask();
      assert.equal((await ask()).body.token, made.body.token);
      const rows = await owner`select * from mooring.repeatable_requests`;
      const kept = rows.map((row) => new TextDecoder("latin1").decode(row.ciphertext)).join();
      assert.equal(kept.includes(made.body.token), false);
      assert.equal((await api.send(token, "GET", `/agents/${id}`)).body.tokens.length, 1);
    });

    await t.step("one whose answer was never kept is not done again, and says so", async () => {
      const cut = { name: "Cut off" };
      const key = { "idempotency-key": "cut" };
      const hash = await tokenHash(JSON.stringify(["create_agent", cut]));
      const id = crypto.randomUUID();
      const begun = await sealSecret(testKey, id, JSON.stringify({ hash, answer: null }));
      await db.asApp`select * from mooring.begin_repeatable_request(${id}, ${workspaceId},
        ${user.userId}, 'cut', ${begun.keyId}, ${begun.iv}, ${begun.ciphertext})`;
      const reply = await api.send(token, "POST", "/agents", cut, key);
      assertProblem(reply, 409, "conflict");
      assert.match(reply.body.detail, /was cut off/);
      // After a day the key is free.
      await owner`update mooring.repeatable_requests set at = now() - interval '25 hours'`;
      const later = await api.send(token, "POST", "/agents", cut, key);
      assert.equal(later.status, 201, later.text);
      await api.send(token, "DELETE", `/agents/${later.body.id}`);
    });

    await t.step("a key of two days ago deploys what is asked now", async () => {
      const key = { "idempotency-key": "nightly" };
      const deploy = (name: string) =>
        api.send(token, "POST", "/servers", { ...GITHUB, name }, key);
      const first = await deploy("Monday");
      assert.equal(first.status, 201, first.text);
      await owner`update mooring.repeatable_requests set at = now() - interval '25 hours'`;
      const other = await deploy("Tuesday");
      assert.deepEqual([other.status, other.body.name], [201, "Tuesday"], other.text);
      await owner`delete from public.servers where id in (${first.body.id}, ${other.body.id})`;
    });

    await t.step("that are far too many at once are told so, and when to come again", async () => {
      const [{ id }] = (await api.send(token, "GET", "/servers")).body.items;
      const release = api.holdLogs();
      // None of these ends before one too many is there.
      const many = Array.from(
        { length: IN_FLIGHT_LIMIT + 8 },
        () => api.send(token, "GET", `/servers/${id}/log`),
      );
      const refused = await Promise.any(many.map(async (each) => {
        const reply = await each;
        if (reply.status !== 429) throw new Error(reply.text);
        return reply;
      }));
      release();
      assertProblem(refused, 429, "too-many");
      assert.equal(refused.headers.get("retry-after"), "1");
      await Promise.all(many);
      assert.equal((await api.send(token, "GET", "/servers")).status, 200);
    });

    await t.step("lists are read in parts, whole and once, while things come and go", async () => {
      const names = Array.from({ length: 7 }, (_, n) => `Part ${9 - n}`);
      for (const name of names) await api.send(token, "POST", "/agents", { name });
      const seen: string[] = [];
      let cursor: string | null = null, round = 0;
      do {
        const query: string = cursor ? `&cursor=${cursor}` : "";
        const { body } = await api.send(token, "GET", `/agents?limit=2${query}`);
        seen.push(...body.items.map(({ name }: { name: string }) => name));
        cursor = body.nextCursor;
        if (round++ === 0) {
          // The last one that was read goes, and two others come.
          await api.send(token, "DELETE", `/agents/${body.items.at(-1).id}`);
          for (const name of ["A new one", "Zz"]) {
            await api.send(token, "POST", "/agents", { name });
          }
        }
      } while (cursor);
      assert.equal(new Set(seen).size + 1, seen.length, "but for Once, which two people made");
      for (const name of [...names, "A new one", "Zz"]) assert.ok(seen.includes(name), name);
    });

    await t.step("calls are read in parts, also those of one moment", async () => {
      const at = new Date();
      for (let n = 0; n < 5; n++) {
        api.calls.record({
          workspaceId,
          agentId: null,
          serverId: null,
          serverSlug: "s",
          tool: `tool ${n}`,
          via: "bridge",
          startedAt: at,
          durationMs: 1,
          outcome: "ok",
          error: null,
          requestBytes: 1,
          responseBytes: 1,
        });
      }
      await api.calls.flush();
      const seen: string[] = [];
      let cursor: string | null = null;
      do {
        const query: string = cursor ? `&cursor=${cursor}` : "";
        const { body } = await api.send(token, "GET", `/calls?limit=2${query}`);
        seen.push(...body.items.map(({ tool }: { tool: string }) => tool));
        cursor = body.nextCursor;
      } while (cursor);
      assert.deepEqual(seen.toSorted(), [0, 1, 2, 3, 4].map((n) => `tool ${n}`));
    });

    await t.step("no token stands in a log, and none can be made with a token", async () => {
      assert.equal(api.logged.join().includes("mpt_"), false);
      await assert.rejects(
        db.asUser(
          { ...user, within: workspaceId },
          (sql) =>
            sql`insert into personal_tokens (id, workspace_id, user_id, name, token_hash, scopes)
            values (gen_random_uuid(), ${workspaceId}, ${user.userId}, 'x', 'x', '{read}')`,
        ),
        { code: "42501" },
      );
      assert.deepEqual(api.logged.filter((line) => / (ERROR|WARNING) /.test(line)), []);
    });
  },
});
