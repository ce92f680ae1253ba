import assert from "node:assert/strict";
import type { User } from "../../models/db.ts";
import { Conflict, Forbidden, Invalid, NotFound } from "../../models/errors.ts";
import { listEvents } from "../../models/events.ts";
import {
  acceptInvitation,
  invitationOf,
  invite,
  listInvitations,
  revokeInvitation,
  whileSigningUp,
} from "../../models/invitations.ts";
import { listMembers, removeMember, setRole, transferWorkspace } from "../../models/members.ts";
import { createAgent } from "../../models/agents.ts";
import { addToolbox, removeToolbox, revokeToolbox } from "../../models/fleet.ts";
import { deployServer } from "../../models/servers.ts";
import {
  createWorkspace,
  deleteWorkspace,
  holdingsOf,
  renameWorkspace,
  type Role,
  workspacesOf,
} from "../../models/workspaces.ts";
import { addMember, KINDS, makeUser, openWorld, testKey } from "./databases.ts";

const ROLES: Role[] = ["viewer", "member", "admin", "owner"];

for (const kind of KINDS) {
  Deno.test({
    name: `workspaces, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, owner } = world;
      let people = 0;

      async function person(): Promise<User & { email: string }> {
        const email = `p${++people}@example.com`;
        const { userId } = await makeUser(world, email);
        await owner`insert into public.profiles (user_id, email, name) values (${userId}, ${email}, ${email})`;
        return { userId, email };
      }
      /** A workspace with one of each role, and one who is in another. */
      async function staffed() {
        const own = await person();
        const workspaceId = await createWorkspace(db, own, "Staffed");
        const by = { owner: own } as Record<Role, User & { email: string }>;
        for (const role of ["admin", "member", "viewer"] as Role[]) {
          by[role] = await person();
          await addMember(world, workspaceId, by[role].userId, role);
        }
        const stranger = await person();
        await createWorkspace(db, stranger, "Another");
        return { workspaceId, by, stranger };
      }
      const roleOf = async (workspaceId: string, { userId }: User) =>
        (await owner`select role from public.members where workspace_id = ${workspaceId} and user_id = ${userId}`)[
          0
        ]?.role;
      const said = async (workspaceId: string, user: User) =>
        (await listEvents(db, user, { workspaceId, layer: "workspace" })).map((e) => e.message);
      /** Who of the roles may, each in a workspace of their own; a stranger finds nothing. */
      async function whoMay(
        act: (asker: User, of: Awaited<ReturnType<typeof staffed>>) => Promise<unknown>,
      ): Promise<Role[]> {
        const may: Role[] = [];
        for (const role of ROLES) {
          const of = await staffed();
          try {
            await act(of.by[role], of);
            may.push(role);
          } catch (error) {
            assert.ok(error instanceof Forbidden, `${role}: ${error}`);
          }
        }
        const of = await staffed();
        await assert.rejects(
          act(of.stranger, of),
          (error) => error instanceof NotFound || error instanceof Forbidden,
        );
        return may;
      }

      await t.step("createWorkspace makes its maker the owner, and says so", async () => {
        const ann = await person();
        const id = await createWorkspace(db, ann, "  Ann's own ");
        assert.deepEqual(await workspacesOf(db, ann), [
          { id, name: "Ann's own", role: "owner", openWishes: 0 },
        ]);
        assert.deepEqual(await said(id, ann), ["Made the workspace Ann's own"]);
        await assert.rejects(createWorkspace(db, ann, " "), Invalid);
        await assert.rejects(createWorkspace(db, ann, "x\u0000"), Invalid);
        for (let i = 1; i < 50; i++) await createWorkspace(db, ann, "More");
        await assert.rejects(createWorkspace(db, ann, "One more"), Conflict);
      });

      await t.step("the table of roles: who may do what to a workspace", async () => {
        const admins: Role[] = ["admin", "owner"];
        assert.deepEqual(
          await whoMay((asker, { workspaceId }) =>
            renameWorkspace(db, asker, workspaceId, "Other")
          ),
          admins,
          "rename",
        );
        assert.deepEqual(
          await whoMay((asker, { workspaceId }) =>
            invite(db, asker, workspaceId, { role: "viewer", days: "1" })
          ),
          admins,
          "invite",
        );
        assert.deepEqual(
          await whoMay(async (asker, { workspaceId, by }) => {
            await invite(db, by.owner, workspaceId, { role: "viewer", days: "1" });
            const [{ id }] = await listInvitations(db, by.owner, workspaceId);
            await revokeInvitation(db, asker, id);
          }),
          admins,
          "revoke an invitation",
        );
        assert.deepEqual(
          await whoMay((asker, { workspaceId, by }) =>
            transferWorkspace(db, asker, workspaceId, by.member.userId)
          ),
          ["owner"],
          "transfer",
        );
        assert.deepEqual(
          await whoMay((asker, { workspaceId }) =>
            deleteWorkspace(db, asker, workspaceId, "Staffed")
          ),
          ["owner"],
          "delete",
        );
      });

      await t.step("the table of roles: nobody changes or makes one above themselves", async () => {
        for (const target of ["viewer", "member", "admin"] as Role[]) {
          for (const role of ROLES) {
            const may = await whoMay(async (asker, { workspaceId, by }) => {
              // Of two of a role, so that each asker has another before them.
              const other = await person();
              await addMember(world, workspaceId, other.userId, target);
              await setRole(db, asker, workspaceId, other.userId, role);
              assert.equal(await roleOf(workspaceId, other), role);
              assert.ok(by.owner);
            });
            assert.deepEqual(
              may,
              role === "owner" ? ["owner"] : ["admin", "owner"],
              `${target} to ${role}`,
            );
          }
          const may = await whoMay(async (asker, { workspaceId }) => {
            const other = await person();
            await addMember(world, workspaceId, other.userId, target);
            await removeMember(db, asker, workspaceId, other.userId);
            assert.equal(await roleOf(workspaceId, other), undefined);
          });
          assert.deepEqual(may, ["admin", "owner"], `remove a ${target}`);
        }
        // An owner is an owner's alone to change.
        for (const act of [setRole, removeMember]) {
          const may = await whoMay(async (asker, { workspaceId }) => {
            const second = await person();
            await addMember(world, workspaceId, second.userId, "owner");
            await act(db, asker, workspaceId, second.userId, "admin");
          });
          assert.deepEqual(may, ["owner"], act.name);
        }
      });

      await t.step("anybody leaves but the last owner, who is not made less either", async () => {
        const { workspaceId, by } = await staffed();
        const lastOwner = (error: Error) =>
          error instanceof Conflict && /last one/.test(error.message);
        await assert.rejects(removeMember(db, by.owner, workspaceId, by.owner.userId), lastOwner);
        await assert.rejects(
          setRole(db, by.owner, workspaceId, by.owner.userId, "viewer"),
          lastOwner,
        );
        // Nor when the account itself is taken away behind Mooring's back.
        await assert.rejects(
          async () => await owner`delete from auth.users where id = ${by.owner.userId}`,
          { code: "MLAST" },
        );
        for (const role of ["viewer", "member", "admin"] as Role[]) {
          await removeMember(db, by[role], workspaceId, by[role].userId);
        }
        assert.deepEqual(
          (await listMembers(db, by.owner, workspaceId)).map(({ email }) => email),
          [by.owner.email],
        );
        assert.deepEqual((await said(workspaceId, by.owner)).slice(0, 3), [
          "Left, as admin",
          "Left, as member",
          "Left, as viewer",
        ]);
        assert.deepEqual(await workspacesOf(db, by.viewer), []);
      });

      await t.step("two owners who demote each other, or leave, at once: one is left", async () => {
        type Act = (workspaceId: string, asker: User, other: User) => Promise<void>;
        const demote: Act = (id, asker, other) => setRole(db, asker, id, other.userId, "viewer");
        const remove: Act = (id, asker, other) => removeMember(db, asker, id, other.userId);
        const leave: Act = (id, asker) => removeMember(db, asker, id, asker.userId);
        const give: Act = (id, asker, other) => transferWorkspace(db, asker, id, other.userId);
        for (
          const [one, another] of [[demote, demote], [remove, remove], [leave, leave], [
            give,
            leave,
          ], [give, give]]
        ) {
          const { workspaceId, by: { owner: a, admin: b } } = await staffed();
          await setRole(db, a, workspaceId, b.userId, "owner");
          await Promise.allSettled([one(workspaceId, a, b), another(workspaceId, b, a)]);
          const owners = await owner`
            select from public.members where workspace_id = ${workspaceId} and role = 'owner'`;
          assert.equal(owners.length, 1);
        }
        const { workspaceId, by } = await staffed();
        await setRole(db, by.owner, workspaceId, by.admin.userId, "owner");
        const outcomes = await Promise.allSettled([
          setRole(db, by.owner, workspaceId, by.admin.userId, "viewer"),
          setRole(db, by.admin, workspaceId, by.owner.userId, "viewer"),
        ]);
        assert.deepEqual(outcomes.map(({ status }) => status).toSorted(), [
          "fulfilled",
          "rejected",
        ]);
        const { reason } = outcomes.find(({ status }) =>
          status === "rejected"
        ) as PromiseRejectedResult;
        // The second is asked as what the first made of them.
        assert.ok(reason instanceof Forbidden, String(reason));
      });

      await t.step("transferWorkspace makes another the owner and the asker an admin", async () => {
        const { workspaceId, by, stranger } = await staffed();
        await assert.rejects(
          transferWorkspace(db, by.owner, workspaceId, stranger.userId),
          NotFound,
        );
        assert.equal(await roleOf(workspaceId, by.owner), "owner");
        await transferWorkspace(db, by.owner, workspaceId, by.viewer.userId);
        assert.equal(await roleOf(workspaceId, by.owner), "admin");
        assert.equal(await roleOf(workspaceId, by.viewer), "owner");
        assert.match((await said(workspaceId, by.viewer))[0], /^Gave the workspace to p\d+@/);
      });

      await t.step("an invitation lets one person in, once, as what it says", async () => {
        const { workspaceId, by, stranger } = await staffed();
        const token = await invite(db, by.admin, workspaceId, { role: "member", days: "7" });
        const [{ token_hash: kept }] = await owner`
          select token_hash from public.invitations where workspace_id = ${workspaceId}`;
        assert.equal(kept.includes(token), false);
        const open = await invitationOf(db, token);
        assert.equal(open?.workspaceName, "Staffed");
        assert.equal(open?.invitedBy, by.admin.email);
        // A member stays what they are, and spends nothing.
        assert.equal(await acceptInvitation(db, by.owner, token), workspaceId);
        assert.equal(await roleOf(workspaceId, by.owner), "owner");
        assert.ok(await invitationOf(db, token));

        const others = await Promise.all([person(), person(), person()]);
        const outcomes = await Promise.allSettled(
          [stranger, ...others].map((each) => acceptInvitation(db, each, token)),
        );
        assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1);
        for (const outcome of outcomes) {
          if (outcome.status === "rejected") assert.ok(outcome.reason instanceof Conflict);
        }
        assert.equal((await listMembers(db, by.owner, workspaceId)).length, 5);
        assert.equal(await invitationOf(db, token), null);
        assert.deepEqual(await listInvitations(db, by.owner, workspaceId), []);
        assert.match(
          (await said(workspaceId, by.owner))[0],
          /^Came in as member, invited by p\d+@/,
        );
      });

      await t.step(
        "an invitation is over when expired, revoked, or of one who is admin no more",
        async () => {
          const { workspaceId, by, stranger } = await staffed();
          const made = () => invite(db, by.admin, workspaceId, { role: "admin", days: "1" });
          const isOver = async (token: string) => {
            assert.equal(await invitationOf(db, token), null);
            await assert.rejects(acceptInvitation(db, stranger, token), Conflict);
            await assert.rejects(whileSigningUp(db, token, () => Promise.resolve()), Conflict);
            assert.equal(await roleOf(workspaceId, stranger), undefined);
          };
          const expired = await made();
          await owner`update public.invitations set created_at = now() - interval '2 days',
          expires_at = now() - interval '1 day'`;
          await isOver(expired);
          const revoked = await made();
          for (const { id } of await listInvitations(db, by.owner, workspaceId)) {
            await revokeInvitation(db, by.owner, id);
          }
          await isOver(revoked);
          const orphaned = await made();
          await setRole(db, by.owner, workspaceId, by.admin.userId, "member");
          await isOver(orphaned);
          await isOver("mwi_unknown");
          assert.deepEqual(
            await listInvitations(db, by.admin, workspaceId),
            [],
            "members see none",
          );
          for (const wish of [{ role: "owner", days: "7" }, { role: "member", days: "9999" }]) {
            await assert.rejects(invite(db, by.owner, workspaceId, wish), Invalid);
          }
        },
      );

      await t.step("who signs up with an invitation keeps it for themselves", async () => {
        const { workspaceId, by, stranger } = await staffed();
        const token = await invite(db, by.owner, workspaceId, { role: "viewer", days: "7" });
        const newcomer = await person();
        await whileSigningUp(db, token, async (hold) => {
          await assert.rejects(whileSigningUp(db, token, () => Promise.resolve()), Conflict);
          await assert.rejects(acceptInvitation(db, stranger, token), Conflict);
          await acceptInvitation(db, newcomer, token, hold);
        });
        assert.equal(await roleOf(workspaceId, newcomer), "viewer");
        const second = await invite(db, by.owner, workspaceId, { role: "viewer", days: "7" });
        await assert.rejects(whileSigningUp(db, second, () => Promise.reject(new Error("no"))));
        await acceptInvitation(db, stranger, second);
        assert.equal(await roleOf(workspaceId, stranger), "viewer");
      });

      await t.step(
        "deleteWorkspace waits for servers and toolboxes, and takes the rest along",
        async () => {
          const { workspaceId, by } = await staffed();
          const { toolboxId } = await addToolbox(db, by.owner, workspaceId, "Box");
          const { serverId } = await deployServer(db, by.owner, {
            workspaceId,
            toolboxId,
            slug: "everything",
            form: {},
            idempotencyKey: crypto.randomUUID(),
          }, testKey);
          await createAgent(db, by.member, workspaceId, "Agent");
          await invite(db, by.owner, workspaceId, { role: "viewer", days: "7" });
          await assert.rejects(deleteWorkspace(db, by.owner, workspaceId, "Wrong"), Invalid);
          await assert.rejects(deleteWorkspace(db, by.owner, workspaceId, "Staffed"), Conflict);
          const holdings = await holdingsOf(db, by.owner, workspaceId);
          assert.deepEqual(holdings.servers.map(({ id }) => id), [serverId]);
          assert.deepEqual(holdings.toolboxes.map(({ id }) => id), [toolboxId]);
          assert.equal(holdings.agents, 1);
          assert.equal(holdings.members, 4);

          await revokeToolbox(db, by.owner, toolboxId);
          await assert.rejects(deleteWorkspace(db, by.owner, workspaceId, "Staffed"), Conflict);
          await removeToolbox(db, by.owner, toolboxId, "Box");
          assert.deepEqual(await deleteWorkspace(db, by.owner, workspaceId, "Staffed"), {
            name: "Staffed",
          });
          const [left] = await owner`
          select (select count(*)::int from public.members where workspace_id = ${workspaceId})
            + (select count(*)::int from public.agents where workspace_id = ${workspaceId})
            + (select count(*)::int from public.invitations where workspace_id = ${workspaceId})
            + (select count(*)::int from public.events where workspace_id = ${workspaceId})
            + (select count(*)::int from public.servers where workspace_id = ${workspaceId}) as rows`;
          assert.deepEqual({ ...left }, { rows: 0 });
          assert.deepEqual(await workspacesOf(db, by.owner), []);
          await assert.rejects(deleteWorkspace(db, by.owner, workspaceId, "Staffed"), NotFound);
        },
      );

      await t.step("deleteWorkspace and a toolbox added at once: never both", async () => {
        for (let round = 0; round < 8; round++) {
          const { workspaceId, by } = await staffed();
          const [deleted, added] = await Promise.allSettled([
            deleteWorkspace(db, by.owner, workspaceId, "Staffed"),
            addToolbox(db, by.admin, workspaceId, "Box"),
          ]);
          assert.notEqual(
            deleted.status === "fulfilled",
            added.status === "fulfilled",
            `round ${round}: ${JSON.stringify([deleted, added])}`,
          );
        }
      });

      await t.step("what is said of a workspace is said by its functions alone", async () => {
        const { workspaceId, by } = await staffed();
        await assert.rejects(
          db.asUser(by.owner, (sql) =>
            sql`insert into events (workspace_id, layer, actor, message)
              values (${workspaceId}, 'workspace', ${by.owner.userId}, 'Left, as owner')`),
          { code: "42501" },
        );
      });

      await t.step("a program with a person's token changes no members", async () => {
        const { workspaceId, by } = await staffed();
        const claims = JSON.stringify({ sub: by.owner.userId, mooring_workspace: workspaceId });
        const asProgram = (work: string) =>
          db.asUser(by.owner, async (sql) => {
            await sql`select set_config('request.jwt.claims', ${claims}, true)`;
            await sql.unsafe(work);
          });
        for (
          const work of [
            `select mooring.create_workspace('${crypto.randomUUID()}', 'x')`,
            `select mooring.remove_member('${workspaceId}', '${by.viewer.userId}')`,
            `select mooring.set_role('${workspaceId}', '${by.viewer.userId}', 'owner')`,
            `select mooring.delete_workspace('${workspaceId}')`,
          ]
        ) await assert.rejects(asProgram(work), { code: "42501" }, work);
      });

      await world.close();
    },
  });
}
