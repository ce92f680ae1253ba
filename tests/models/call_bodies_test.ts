import assert from "node:assert/strict";
import { createAgent } from "../../models/agents.ts";
import { BodyKeeper, readCallBody } from "../../models/call_bodies.ts";
import { MASK } from "../../models/call_masking.ts";
import { CallRecorder, listCalls } from "../../models/calls.ts";
import { createLog } from "../../models/log.ts";
import { keepBodies, removeExpired } from "../../models/retention.ts";
import { deployServer } from "../../models/servers.ts";
import { addMember, KINDS, makeUser, openWorld, testKey } from "./databases.ts";

for (const kind of KINDS) {
  Deno.test({
    name: `what is said in calls, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, owner, user, workspaceId, toolboxId } = world;
      const lines: string[] = [];
      const log = createLog("json", (line) => lines.push(line));
      let recorder = new CallRecorder(db, log, new BodyKeeper(db, testKey));
      const { serverId } = await deployServer(db, user, {
        workspaceId,
        toolboxId,
        slug: "github",
        form: { "env.GITHUB_PERSONAL_ACCESS_TOKEN": "a-very-own-secret" },
        idempotencyKey: crypto.randomUUID(),
      }, testKey);
      const agentId = await createAgent(db, user, workspaceId, "Agent");
      type Answer = Parameters<CallRecorder["said"]>[2];
      const call = async (args: string, answer: Answer, startedAt = new Date()) => {
        const tool = crypto.randomUUID();
        recorder.record({
          workspaceId,
          agentId,
          serverId,
          serverSlug: "github",
          tool,
          via: "bridge",
          startedAt,
          durationMs: 1,
          outcome: "ok",
          error: null,
          requestBytes: 1,
          responseBytes: 1,
          said: recorder.said(workspaceId, args, answer),
        });
        await recorder.flush();
        assert.deepEqual(lines, []);
        const calls = await listCalls(db, user, { workspaceId }, { limit: 100 });
        return calls.find((each) => each.tool === tool)!;
      };
      const result = { kind: "result", text: '{"content":[{"type":"text","text":"hi"}]}' } as const;
      const bodies = async () => {
        const [{ n }] = await owner`select count(*)::int as n from public.call_bodies`;
        return n;
      };
      const read = (of: { id: string }, as = user) =>
        readCallBody({ db, secretsKey: testKey }, as, of.id);

      await t.step("is not kept, nor held on to, where nobody wants it", async () => {
        assert.equal(await read(await call('{"a":1}', result)), null);
        assert.equal(await bodies(), 0);
        assert.equal(recorder.said(workspaceId, "{}", result), undefined);
      });

      await t.step("is kept masked and sealed, once an owner wants it", async () => {
        await keepBodies(db, user, workspaceId, { isOn: true, days: 7 });
        // The other one takes ten seconds to hear of it.
        recorder = new CallRecorder(db, log, new BodyKeeper(db, testKey));
        const made = await call(
          '{"q":"with a-very-own-secret","password":"x"}',
          { kind: "result", text: '{"content":[{"type":"text","text":"key a-very-own-secret"}]}' },
        );
        assert.deepEqual(await read(made), {
          arguments: { value: { q: `with ${MASK}`, password: MASK }, masked: 2, isCut: false },
          answer: {
            kind: "result",
            value: { content: [{ type: "text", text: `key ${MASK}` }] },
            masked: 1,
            isCut: false,
          },
        });
        const [row] = await owner`select ciphertext from public.call_bodies`;
        const bytes = new TextDecoder("latin1").decode(row.ciphertext);
        assert.ok(!bytes.includes("content"), "sealed");
        assert.deepEqual(await read(await call("", null)), {
          arguments: { value: {}, masked: 0, isCut: false },
          answer: null,
        });
        const large = await call("{}", { kind: "result", text: `{"a":"${"x".repeat(2 ** 20)}"}` });
        assert.deepEqual((await read(large))?.answer, {
          kind: "result",
          value: null,
          masked: 0,
          isCut: true,
        });
      });

      await t.step("is for owners and admins", async () => {
        const made = await call("{}", result);
        for (const role of ["viewer", "member", "admin"]) {
          const person = await makeUser(world, `${role}@example.com`);
          await addMember(world, workspaceId, person.userId, role);
          assert.equal(await read(made, person) !== null, role === "admin", role);
        }
        assert.equal(await read(made, await makeUser(world, "stranger@example.com")), null);
      });

      await t.step("has a time of its own", async () => {
        const old = await call("{}", result, new Date(Date.now() - 8 * 86_400_000));
        const before = await bodies();
        await owner`update mooring.upkeep set due_at = now()`;
        assert.equal(await removeExpired({ db }), 1);
        assert.equal(await bodies(), before - 1);
        assert.equal(await read(old), null);
      });

      await t.step("goes with its call", async () => {
        const made = await call("{}", result);
        await owner`delete from public.calls where id = ${made.id}`;
        assert.equal(await read(made), null);
      });

      await t.step(
        "is deleted when it is turned off, and not kept by who has not heard",
        async () => {
          assert.ok(await bodies() > 0);
          await keepBodies(db, user, workspaceId, { isOn: false, days: 7 });
          assert.equal(await bodies(), 0);
          await call("{}", result);
          assert.equal(await bodies(), 0);
        },
      );

      await world.close();
    },
  });
}
