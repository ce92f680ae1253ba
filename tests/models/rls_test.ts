import assert from "node:assert/strict";
import { v7 } from "uuid";
import type { Sql } from "../../models/db.ts";
import { deployServer } from "../../models/servers.ts";
import { connectServer, createAgent, createToken, revokeToken } from "../../models/agents.ts";
import { createPersonalToken, revokePersonalToken } from "../../models/personal_tokens.ts";
import { writeEntry } from "../../models/catalog_sources.ts";
import { syncDueSources } from "../../models/catalog_sync.ts";
import { setChatModel } from "../../models/chat_models.ts";
import { createConversation, sendMessage } from "../../models/conversations.ts";
import { putQuestions } from "../../models/conversation_questions.ts";
import { beginSummary } from "../../models/conversation_summaries.ts";
import { beginStep, endStep, takeToken } from "../../models/conversation_work.ts";
import { createLog } from "../../models/log.ts";
import { invite } from "../../models/invitations.ts";
import { grantManagement } from "../../models/management_grants.ts";
import { makeWish } from "../../models/wishes.ts";
import { openSession } from "../../models/sessions.ts";
import { acceptReport } from "../../models/toolboxes.ts";
import { startTrialRun } from "../../models/trial_runs.ts";
import { addMember, KINDS, makeUser, openWorld, SUPABASE, testKey } from "./databases.ts";
import { observation } from "./observation.ts";

/** Who asks. `own` ones belong to the workspace whose rows are looked for; `other` ones to another. */
const ASKERS = [
  "anon",
  "nobody",
  "stranger",
  "viewer",
  "member",
  "owner",
  "owner's client",
  "own agent",
  "other agent",
  "own toolbox",
  "other toolbox",
] as const;
type Asker = (typeof ASKERS)[number];
type Verb = "select" | "insert" | "update" | "delete";

const PEOPLE: Asker[] = ["viewer", "member", "owner"];
const MEMBERS: Asker[] = ["member", "owner"];

/**
 * For each table who may do what with a row of the workspace. A table that is not here fails the
 * test: one that is added must say whom it is for.
 */
const MATRIX: Record<string, Record<Verb, Asker[]>> = {
  // Of a person's profile: those who share a workspace with them.
  profiles: { select: PEOPLE, insert: [], update: [], delete: [] },
  workspaces: { select: PEOPLE, insert: [], update: ["owner"], delete: [] },
  // Nobody writes members or invitations but by their functions: workspaces_test.ts.
  members: { select: PEOPLE, insert: [], update: [], delete: [] },
  invitations: { select: ["owner"], insert: [], update: [], delete: [] },
  toolboxes: {
    select: [...PEOPLE, "own agent", "own toolbox"],
    insert: ["owner"],
    update: ["owner", "own toolbox"],
    delete: [], // an admin deletes one that was revoked: fleet_test.ts
  },
  server_samples: {
    select: [...PEOPLE, "own toolbox"],
    insert: ["own toolbox"],
    update: ["own toolbox"],
    delete: ["own toolbox"],
  },
  egress_denials: {
    select: [...PEOPLE, "own toolbox"],
    insert: ["own toolbox"],
    update: ["own toolbox"],
    delete: [...MEMBERS, "own toolbox"],
  },
  // The built-in catalog, which is everyone's who is signed in as somebody or not.
  catalog_entries: {
    select: ["nobody", "stranger", ...PEOPLE, "owner's client"],
    insert: [],
    update: [],
    delete: [],
  },
  // Catalog sources are owners' and admins'; what comes of them is written by the app itself.
  catalog_sources: { select: PEOPLE, insert: ["owner"], update: ["owner"], delete: ["owner"] },
  catalog_documents: { select: PEOPLE, insert: ["owner"], update: ["owner"], delete: ["owner"] },
  catalog_entry_versions: { select: PEOPLE, insert: [], update: [], delete: [] },
  catalog_broken_entries: { select: PEOPLE, insert: [], update: [], delete: [] },
  // Written by what a toolbox reports of servers, through a trigger.
  catalog_proofs: { select: PEOPLE, insert: [], update: [], delete: [] },
  servers: {
    select: [...PEOPLE, "own agent", "own toolbox"],
    insert: MEMBERS,
    update: MEMBERS,
    delete: [], // a toolbox deletes what was asked to be removed: toolboxes_test.ts
  },
  server_generations: {
    select: [...PEOPLE, "own toolbox"],
    insert: MEMBERS,
    update: ["own toolbox"], // when it became ready
    delete: [],
  },
  secrets: {
    select: [...PEOPLE, "own toolbox"],
    insert: MEMBERS,
    update: MEMBERS,
    delete: MEMBERS,
  },
  authorizations: {
    select: [...PEOPLE, "own agent", "own toolbox"],
    insert: MEMBERS,
    update: [...MEMBERS, "own toolbox"],
    delete: MEMBERS,
  },
  server_scans: {
    select: [...PEOPLE, "own toolbox"],
    insert: ["own toolbox"],
    update: ["own toolbox"],
    delete: ["own toolbox"],
  },
  observations: {
    select: [...PEOPLE, "own agent", "own toolbox"],
    insert: ["own toolbox"],
    update: ["own toolbox"],
    delete: [],
  },
  tools: {
    select: [...PEOPLE, "own agent", "own toolbox"],
    insert: ["own toolbox"],
    update: [...MEMBERS, "own toolbox"],
    delete: [],
  },
  definitions: {
    select: [...PEOPLE, "own agent", "own toolbox"],
    insert: ["own toolbox"],
    update: [...MEMBERS, "own toolbox"],
    delete: [],
  },
  agents: { select: [...PEOPLE, "own agent"], insert: MEMBERS, update: MEMBERS, delete: MEMBERS },
  agent_tokens: { select: PEOPLE, insert: MEMBERS, update: MEMBERS, delete: [] },
  // The owner's own: nobody else sees it, whatever they are. No other can be made in a person's name.
  personal_tokens: { select: ["owner"], insert: ["owner"], update: ["owner"], delete: [] },
  connections: {
    select: [...PEOPLE, "own agent"],
    insert: MEMBERS,
    update: MEMBERS,
    delete: MEMBERS,
  },
  connection_secrets: {
    select: [...PEOPLE, "own agent", "own toolbox"],
    insert: MEMBERS,
    update: [],
    delete: MEMBERS,
  },
  // Of no interest to people: what is an agent's client's own.
  mcp_sessions: {
    select: ["own agent"],
    insert: ["own agent"],
    update: ["own agent"],
    delete: ["own agent"],
  },
  api_documents: { select: PEOPLE, insert: MEMBERS, update: MEMBERS, delete: MEMBERS },
  // A person's own: nobody else sees what they tried.
  trial_runs: { select: ["owner"], insert: ["owner"], update: ["owner"], delete: ["owner"] },
  // An admin says it, in their own name; a grant is made anew and not changed.
  management_grants: {
    select: [...PEOPLE, "own agent"],
    insert: ["owner"],
    update: [],
    delete: ["owner"],
  },
  // An agent makes its own and takes them back, a member decides them: wishes_test.ts. Nobody sets what
  // they are already, nor opens one again.
  wishes: { select: [...PEOPLE, "own agent"], insert: ["own agent"], update: [], delete: [] },
  // Named by admins. Nobody reads the key back.
  chat_models: { select: PEOPLE, insert: ["owner"], update: ["owner"], delete: ["owner"] },
  // A person's own, as trials are: nobody else sees what they talk about.
  conversations: { select: ["owner"], insert: ["owner"], update: ["owner"], delete: ["owner"] },
  conversation_turns: { select: ["owner"], insert: ["owner"], update: ["owner"], delete: [] },
  conversation_steps: {
    select: ["owner"],
    insert: ["owner"],
    update: ["owner"],
    delete: ["owner"],
  },
  conversation_calls: { select: ["owner"], insert: ["owner"], update: ["owner"], delete: [] },
  conversation_questions: {
    select: ["owner"],
    insert: ["owner"],
    update: ["owner"],
    delete: [],
  },
  conversation_summaries: {
    select: ["owner"],
    insert: ["owner"],
    update: ["owner"],
    delete: ["owner"],
  },
  conversation_tokens: { select: ["owner"], insert: ["owner"], update: [], delete: ["owner"] },
  events: { select: PEOPLE, insert: [...MEMBERS, "own toolbox"], update: [], delete: [] },
  calls: { select: PEOPLE, insert: [], update: [], delete: [] },
  call_series: { select: PEOPLE, insert: [], update: [], delete: [] },
  call_sums: { select: PEOPLE, insert: [], update: [], delete: [] },
  call_tail: { select: PEOPLE, insert: [], update: [], delete: [] },
  // What was said is for owners and admins.
  call_bodies: { select: ["owner"], insert: [], update: [], delete: [] },
};

for (const kind of [...KINDS, SUPABASE]) {
  Deno.test({
    name: `row level security, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, owner, user, workspaceId, toolboxId } = world;

      const viewer = await makeUser(world, "viewer@example.com");
      const member = await makeUser(world, "member@example.com");
      const stranger = await makeUser(world, "stranger@example.com");
      await addMember(world, workspaceId, viewer.userId, "viewer");
      await addMember(world, workspaceId, member.userId, "member");
      const other = { workspaceId: v7(), toolboxId: v7(), agentId: v7() };
      await owner`insert into public.workspaces (id, name) values (${other.workspaceId}, 'Other')`;
      await addMember(world, other.workspaceId, stranger.userId, "owner");
      await owner`
        insert into public.toolboxes (id, workspace_id, name, public_key)
        values (${other.toolboxId}, ${other.workspaceId}, 'Other', 'k')`;
      await owner`
        insert into public.agents (id, workspace_id, name) values (${other.agentId}, ${other.workspaceId}, 'Other')`;

      const { serverId } = await deployServer(db, user, {
        workspaceId,
        toolboxId,
        slug: "github",
        form: { "env.GITHUB_PERSONAL_ACCESS_TOKEN": "ghp_secret" },
        idempotencyKey: crypto.randomUUID(),
      }, testKey);
      await invite(db, user, workspaceId, { role: "member", days: "7" });
      const agentId = await createAgent(db, user, workspaceId, "Agent");
      const token = await createToken(db, user, agentId, { name: "t", expiresInDays: null });
      await revokeToken(db, user, agentId, token.id); // the one update there is of a token
      const personal = await createPersonalToken(db, user, workspaceId, {
        name: "t",
        scopes: ["read"],
        expiresInDays: null,
      });
      await revokePersonalToken(db, user, personal.id);
      await connectServer(db, user, agentId, serverId);
      await acceptReport(db, toolboxId, {
        epoch: v7(),
        sequence: 1,
        observations: [{
          ...observation(serverId, 1, [{ name: "echo", inputSchema: {} }]),
          prompts: [{ name: "greet" }],
        }],
        events: [],
        removed: [],
        samples: [{
          serverId,
          instance: null,
          at: new Date().toISOString(),
          cpus: 0.5,
          memoryBytes: 1,
          receivedBytes: 1,
          sentBytes: 1,
          pids: 1,
        }],
        denials: [{
          serverId,
          host: "api.example.com",
          port: 443,
          reason: "It is not allowed",
          count: 1,
          at: new Date().toISOString(),
        }],
        scans: [{
          serverId,
          scan: {
            imageId: "sha256:0",
            at: new Date().toISOString(),
            components: 1,
            scanner: null,
            outcome: { state: "failed", reason: "No scanner" },
          },
        }],
      });
      await openSession(db, { agentId, workspaceId }, {
        scope: null,
        transport: "streamable_http",
        revision: "2025-11-25",
        clientInfo: null,
        capabilities: {},
      });
      await db.asUser(user, (sql) =>
        sql`
          insert into authorizations (server_id, workspace_id, state, key_id, iv, ciphertext)
          values (${serverId}, ${workspaceId}, 'signed_in', 'k', '\\x00', '\\x00')`);
      await db.asUser(user, (sql) =>
        sql`
          insert into connection_secrets ${
          sql({
            workspace_id: workspaceId,
            key_id: "k",
            iv: new Uint8Array(12),
            ciphertext: new Uint8Array(20),
            id: v7(),
            agent_id: agentId,
            server_id: serverId,
            name: "Y",
          })
        }`);
      const { sourceId } = await writeEntry(
        db,
        user,
        workspaceId,
        '{"name":"com.example/x","description":"x","version":"1.0.0","packages":[]}',
      );
      const outside = () => Promise.reject(new Error("Nothing is fetched"));
      const log = createLog("text", () => {});
      await syncDueSources({ db, log, outside }, { sourceId });
      await owner`
        insert into public.catalog_broken_entries (source_id, workspace_id, place, reason, raw, seen_in)
        values (${sourceId}, ${workspaceId}, 'x', 'x', 'x', 1)`;
      await grantManagement(db, user, agentId, {
        scopes: ["read", "servers:write"],
        asks: ["servers:write"],
      });
      await makeWish(db, { agentId, workspaceId }, {
        asked: { operation: "connect_server", serverId },
        basis: { server: { name: "GitHub", slug: "github" } },
        wants: "connect itself to GitHub",
        reason: null,
      }).then(() => assert.fail("It was not granted that"), () => {});
      await makeWish(db, { agentId, workspaceId }, {
        asked: { operation: "deploy_server", entry: "memory", name: "Memory", values: {} },
        basis: { server: { name: "Memory", slug: "memory" } },
        wants: "deploy Memory",
        reason: null,
      });
      await owner`
        insert into public.api_documents (id, workspace_id, title, version, openapi, description, document, summary)
        values (${v7()}, ${workspaceId}, 'x', '1', '3.1.0', '', '{}', '{}')`;
      await startTrialRun(db, user, { serverId, tool: "echo", args: {} });
      const models = { fetch, refusalOf: () => Promise.resolve(null) };
      await setChatModel({ db, secretsKey: testKey, models }, user, workspaceId, {
        provider: "anthropic",
        baseUrl: "https://models.example.com",
        model: "m",
        key: "k",
      });
      const conversationId = await createConversation(db, user, workspaceId, {
        agentId,
        title: "T",
      });
      const worker = v7();
      const turnId = await sendMessage(db, user, conversationId, {
        text: "Hello",
        attachments: [],
        worker,
      });
      const work = { conversationId, turnId, worker };
      await beginStep(db, user, work, 0);
      await endStep(db, user, work, 0, {
        message: {},
        calls: [{ callId: "c", tool: "t", arguments: "{}", state: "asked", told: null }],
        inputTokens: null,
        outputTokens: null,
      });
      const [{ id: callId }] = await owner`select id from public.conversation_calls`;
      await putQuestions(db, user, work, callId, {
        tool: "t",
        requestState: null,
        questions: [{ name: "q", params: {} }],
      });
      await beginSummary(db, user, work, { step: 0, until: { turnId, step: 0 } });
      await takeToken(db, user, { workspaceId, agentId });
      await owner`update public.tools set approved_hash = hash, approved_definition = definition`;
      await owner`update public.definitions set approved_hash = hash, approved_definition = definition`;
      await db.asApp`select mooring.record_calls(${
        db.asApp.json([{
          id: v7(),
          workspace_id: workspaceId,
          agent_id: agentId,
          server_id: serverId,
          server_slug: "github",
          tool: "echo",
          via: "bridge",
          started_at: new Date().toISOString(),
          duration_ms: 1,
          outcome: "ok",
          error: null,
          request_bytes: 1,
          response_bytes: 1,
        }])
      })`;

      // Some among the sums, and some that wait.
      await owner`select mooring.recount_calls(${workspaceId})`;
      await owner`
        insert into public.call_tail (workspace_id, server_slug, tool, via, outcome, at, bucket, calls)
        values (${workspaceId}, 'x', 'x', 'bridge', 'ok', now(), 1, 1)`;
      await owner`
        insert into public.call_bodies (call_id, workspace_id, at, key_id, iv, ciphertext)
        select id, workspace_id, started_at, 'k', '\\x00', '\\x00' from public.calls`;

      /** Runs work as an asker, and takes back what it did. */
      async function as<T>(asker: Asker, work: (sql: Sql) => Promise<T>): Promise<T> {
        let result: T;
        const undone = new Error("undone");
        const run = async (sql: Sql) => {
          if (asker === "anon") await sql`select set_config('role', 'anon', true)`;
          // As PostgREST makes one whom Supabase's OAuth server signed in: its token is its person's as well.
          if (asker === "owner's client") {
            const claims = { role: "authenticated", sub: user.userId, client_id: v7() };
            await sql`select set_config('request.jwt.claims', ${JSON.stringify(claims)}, true)`;
          }
          result = await work(sql);
          throw undone;
        };
        const people: Partial<Record<Asker, string>> = {
          stranger: stranger.userId,
          viewer: viewer.userId,
          member: member.userId,
          owner: user.userId,
          "owner's client": user.userId,
        };
        const attempt = asker === "own agent"
          ? db.asAgent(agentId, run)
          : asker === "other agent"
          ? db.asAgent(other.agentId, run)
          : asker === "own toolbox"
          ? db.asToolbox(toolboxId, run)
          : asker === "other toolbox"
          ? db.asToolbox(other.toolboxId, run)
          : asker === "anon"
          // As PostgREST makes it: no role of the app leads there.
          ? owner.begin ? owner.begin((sql) => run(sql as Sql)) : db.asApp.begin(async (sql) => {
            await sql`set local session authorization postgres`;
            await run(sql as Sql);
          })
          : db.asUser({ userId: people[asker]! }, run);
        await attempt.catch((error) => {
          if (error !== undone) throw error;
        });
        return result!;
      }

      /** True when the asker can do it: sees, makes, changes or deletes a row of the workspace. */
      async function can(asker: Asker, verb: Verb, table: string): Promise<boolean> {
        try {
          return await as(asker, async (sql) => await attempt(sql, verb, table) > 0);
        } catch (error) {
          const { code } = error as { code?: string };
          // 42501 insufficient privilege; 23xxx: it was let through and only the made-up row is wrong.
          if (code === "42501") return false;
          if (code?.startsWith("23")) return true;
          throw error;
        }
      }

      async function attempt(sql: Sql, verb: Verb, table: string): Promise<number> {
        const name = sql(`public.${table}`);
        const where = table === "catalog_entries"
          ? sql`slug = 'github'`
          : table === "workspaces"
          ? sql`id = ${workspaceId}`
          : table === "profiles"
          ? sql`user_id = ${user.userId}`
          : sql`workspace_id = ${workspaceId}`;
        if (verb === "select") {
          // One column that any reader may have: some tables give only a few.
          const column = {
            profiles: "user_id",
            members: "user_id",
            server_generations: "server_id",
            server_samples: "server_id",
            server_scans: "server_id",
            authorizations: "server_id",
            egress_denials: "server_id",
            observations: "server_id",
            tools: "server_id",
            definitions: "server_id",
            connections: "server_id",
            management_grants: "agent_id",
            call_sums: "series_id",
            call_tail: "tool",
            call_bodies: "call_id",
            conversation_steps: "turn_id",
            catalog_documents: "source_id",
            catalog_entry_versions: "entry_id",
            catalog_broken_entries: "source_id",
            catalog_proofs: "entry_id",
          }[table] ?? "id";
          return (await sql`select ${sql(column)} from ${name} where ${where}`).length;
        }
        if (verb === "delete") return (await sql`delete from ${name} where ${where}`).count;
        if (verb === "insert") {
          return (await sql`insert into ${name} ${sql(ROWS[table](sql))}`).count;
        }
        for (const column of UPDATES[table]) {
          const quoted = sql(column);
          try {
            await sql`savepoint one`;
            const { count } = await sql`update ${name} set ${quoted} = ${quoted} where ${where}`;
            if (count > 0) return count;
          } catch (error) {
            if ((error as { code?: string }).code !== "42501") throw error;
            await sql`rollback to one`;
          }
        }
        return 0;
      }

      /** The columns that anyone may change of a table, so that "may not" means none of them. */
      const UPDATES: Record<string, string[]> = {};
      for (
        const { relname, columns } of await owner<{ relname: string; columns: string[] }[]>`
          select c.relname, array_agg(a.attname::text) as columns from pg_class c
          join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attgenerated = ''
            and a.attidentity = ''
          group by 1`
      ) UPDATES[relname] = columns;

      // deno-lint-ignore no-explicit-any
      const ROWS: Record<string, (sql: Sql) => any> = {
        profiles: () => ({ user_id: stranger.userId, email: "x" }),
        workspaces: () => ({ id: v7(), name: "x" }),
        members: () => ({ workspace_id: workspaceId, user_id: stranger.userId, role: "owner" }),
        invitations: () => ({
          id: v7(),
          workspace_id: workspaceId,
          role: "admin",
          token_hash: v7(),
          created_by: user.userId,
          expires_at: new Date(),
        }),
        toolboxes: () => ({ id: v7(), workspace_id: workspaceId, name: "x" }),
        catalog_entries: (sql) => ({
          id: v7(),
          workspace_id: workspaceId,
          source: "x",
          slug: "x",
          entry: sql.json({}),
        }),
        catalog_sources: () => ({
          id: v7(),
          workspace_id: workspaceId,
          slug: "x",
          name: "x",
          kind: "written",
        }),
        catalog_documents: () => ({
          source_id: sourceId,
          workspace_id: workspaceId,
          path: "x",
          body: "x",
        }),
        catalog_entry_versions: (sql) => ({
          entry_id: v7(),
          workspace_id: workspaceId,
          hash: "x",
          version: "x",
          entry: sql.json({}),
          raw: "x",
        }),
        catalog_broken_entries: () => ({
          source_id: sourceId,
          workspace_id: workspaceId,
          place: "y",
          reason: "x",
          raw: "x",
          seen_in: 1,
        }),
        catalog_proofs: () => ({
          workspace_id: workspaceId,
          entry_id: v7(),
          package: {},
          ready_at: new Date(),
        }),
        servers: () => ({
          id: v7(),
          workspace_id: workspaceId,
          toolbox_id: toolboxId,
          name: "x",
          slug: "x",
          idempotency_key: v7(),
        }),
        server_generations: (sql) => ({
          server_id: serverId,
          workspace_id: workspaceId,
          generation: 9,
          config: sql.json({}),
        }),
        secrets: () => ({
          id: v7(),
          workspace_id: workspaceId,
          server_id: serverId,
          name: "X",
          key_id: "k",
          iv: new Uint8Array(12),
          ciphertext: new Uint8Array(20),
        }),
        server_samples: () => ({
          server_id: serverId,
          workspace_id: workspaceId,
          at: new Date(),
          cpus: 1,
          memory_bytes: 1,
          received_bytes: 1,
          sent_bytes: 1,
          pids: 1,
        }),
        authorizations: () => ({
          server_id: serverId,
          workspace_id: workspaceId,
          state: "waiting",
        }),
        server_scans: (sql) => ({
          server_id: serverId,
          workspace_id: workspaceId,
          scan: sql.json({}),
          scanned_at: new Date(),
        }),
        egress_denials: () => ({
          server_id: serverId,
          workspace_id: workspaceId,
          host: "x",
          port: 1,
          reason: "x",
          first_at: new Date(),
          last_at: new Date(),
        }),
        observations: (sql) => ({
          server_id: serverId,
          workspace_id: workspaceId,
          generation: 1,
          layers: sql.json({}),
        }),
        tools: (sql) => ({
          server_id: serverId,
          workspace_id: workspaceId,
          name: "x",
          definition: sql.json({}),
          hash: "x",
        }),
        definitions: (sql) => ({
          server_id: serverId,
          workspace_id: workspaceId,
          kind: "prompt",
          name: "x",
          definition: sql.json({}),
          hash: "x",
        }),
        agents: () => ({ id: v7(), workspace_id: workspaceId, name: "x" }),
        agent_tokens: () => ({
          id: v7(),
          workspace_id: workspaceId,
          agent_id: agentId,
          name: "x",
          token_hash: v7(),
        }),
        management_grants: () => ({
          agent_id: agentId,
          workspace_id: workspaceId,
          granted_by: user.userId,
          scopes: ["read"],
        }),
        personal_tokens: () => ({
          id: v7(),
          workspace_id: workspaceId,
          user_id: user.userId,
          name: "x",
          token_hash: v7(),
          scopes: ["read"],
        }),
        connections: () => ({ agent_id: agentId, server_id: serverId, workspace_id: workspaceId }),
        connection_secrets: () => ({
          id: v7(),
          workspace_id: workspaceId,
          agent_id: agentId,
          server_id: serverId,
          name: "X",
          key_id: "k",
          iv: new Uint8Array(12),
          ciphertext: new Uint8Array(20),
        }),
        mcp_sessions: () => ({
          id: v7(),
          workspace_id: workspaceId,
          agent_id: agentId,
          transport: "http_sse",
          revision: "2024-11-05",
        }),
        api_documents: () => ({
          id: v7(),
          workspace_id: workspaceId,
          title: "x",
          version: "1",
          openapi: "3.1.0",
          description: "",
          document: "{}",
          summary: "{}",
        }),
        trial_runs: () => ({
          id: v7(),
          workspace_id: workspaceId,
          server_id: serverId,
          user_id: user.userId,
          tool: "x",
        }),
        wishes: (sql) => ({
          id: v7(),
          workspace_id: workspaceId,
          agent_id: agentId,
          operation: "deploy_server",
          asked: sql.json({}),
          basis: sql.json({}),
          hash: "x",
          wants: "x",
        }),
        chat_models: () => ({
          id: v7(),
          workspace_id: workspaceId,
          provider: "anthropic",
          base_url: "x",
          model: "x",
        }),
        conversations: () => ({
          id: v7(),
          workspace_id: workspaceId,
          user_id: user.userId,
          agent_id: agentId,
          title: "x",
        }),
        conversation_turns: () => ({
          id: v7(),
          conversation_id: conversationId,
          workspace_id: workspaceId,
          user_id: user.userId,
          text: "x",
        }),
        conversation_steps: () => ({
          turn_id: turnId,
          n: 1,
          workspace_id: workspaceId,
          user_id: user.userId,
        }),
        conversation_calls: () => ({
          id: v7(),
          turn_id: turnId,
          step: 0,
          n: 1,
          workspace_id: workspaceId,
          user_id: user.userId,
          call_id: "x",
          tool: "x",
          arguments: "{}",
          state: "asked",
        }),
        conversation_questions: (sql) => ({
          id: v7(),
          call_id: callId,
          turn_id: turnId,
          workspace_id: workspaceId,
          user_id: user.userId,
          round: 2,
          name: "x",
          params: sql.json({}),
          expires_at: new Date(),
        }),
        conversation_summaries: () => ({
          id: v7(),
          conversation_id: conversationId,
          turn_id: turnId,
          step: 0,
          workspace_id: workspaceId,
          user_id: user.userId,
          until_turn_id: turnId,
          until_step: 0,
        }),
        conversation_tokens: () => ({
          id: v7(),
          token_hash: v7(),
          workspace_id: workspaceId,
          agent_id: agentId,
          user_id: user.userId,
          expires_at: new Date(),
        }),
        events: () => ({
          workspace_id: workspaceId,
          server_id: serverId,
          layer: "tools",
          message: "x",
        }),
        call_series: () => ({
          workspace_id: workspaceId,
          server_slug: "x",
          tool: "x",
          via: "bridge",
          outcome: "ok",
          key: v7(),
        }),
        call_sums: () => ({
          workspace_id: workspaceId,
          span_seconds: 60,
          at: new Date(),
          series_id: 1,
          outcome: "ok",
          bucket: 1,
          calls: 1,
        }),
        call_tail: () => ({
          workspace_id: workspaceId,
          server_slug: "x",
          tool: "x",
          via: "bridge",
          outcome: "ok",
          at: new Date(),
          bucket: 1,
          calls: 1,
        }),
        call_bodies: () => ({
          call_id: v7(),
          workspace_id: workspaceId,
          at: new Date(),
          key_id: "k",
          iv: new Uint8Array(12),
          ciphertext: new Uint8Array(20),
        }),
        calls: () => ({
          id: v7(),
          workspace_id: workspaceId,
          server_slug: "x",
          tool: "x",
          via: "bridge",
          started_at: new Date(),
          duration_ms: 1,
          outcome: "ok",
          request_bytes: 1,
          response_bytes: 1,
        }),
      };

      const tables = await owner<{ name: string; enabled: boolean; forced: boolean }[]>`
        select relname as name, relrowsecurity as enabled, relforcerowsecurity as forced
        from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') order by 1`;

      await t.step("is enabled and forced on every table, and every table is in the matrix", () => {
        assert.deepEqual(tables.map(({ name }) => name), Object.keys(MATRIX).toSorted());
        assert.deepEqual(tables.filter(({ enabled, forced }) => !enabled || !forced), []);
      });

      for (const { name } of tables) {
        await t.step(`${name}: only who may can select, insert, update, delete`, async () => {
          for (const verb of ["select", "insert", "update", "delete"] as Verb[]) {
            const allowed: Asker[] = [];
            for (const asker of ASKERS) {
              // A person's own event names themselves.
              if (name === "events" && verb === "insert" && MEMBERS.includes(asker)) {
                const actor = asker === "owner" ? user.userId : member.userId;
                const made = await as(
                  asker,
                  async (sql) =>
                    (await sql`insert into events ${sql({ ...ROWS.events(sql), actor })}`).count,
                );
                if (made > 0) allowed.push(asker);
              } else if (await can(asker, verb, name)) allowed.push(asker);
            }
            assert.deepEqual(
              allowed,
              ASKERS.filter((a) => MATRIX[name][verb].includes(a)),
              `${verb} ${name}`,
            );
          }
        });
      }

      await t.step("an event cannot be written in another person's name", async () => {
        await assert.rejects(
          as(
            "member",
            async (sql) =>
              await sql`insert into events ${sql({ ...ROWS.events(sql), actor: user.userId })}`,
          ),
          { code: "42501" },
        );
      });

      await t.step("nothing can be made or approved in another person's name", async () => {
        for (const table of ["servers", "server_generations", "agents"]) {
          await assert.rejects(
            as(
              "member",
              async (sql) =>
                await sql`insert into ${sql(`public.${table}`)} ${
                  sql({ ...ROWS[table](sql), created_by: user.userId })
                }`,
            ),
            { code: "42501" },
            table,
          );
        }
        for (
          const [table, column] of [["tools", "approved_by"], ["authorizations", "signed_in_by"]]
        ) {
          const write = async (sql: Sql) =>
            await sql`update ${sql(table)} set ${sql(column)} = ${user.userId}`;
          await assert.rejects(as("member", write), { code: "42501" }, table);
        }
      });

      await t.step("where secrets and accounts go to is written by the app alone", async () => {
        if (kind !== SUPABASE) return; // the project's own API is there alone
        const atDataApi = (write: (sql: Sql) => Promise<unknown>) =>
          owner.begin(async (sql) => {
            await sql`set local session authorization authenticator`;
            await sql`select set_config('role', 'authenticated', true),
              set_config('request.jwt.claims', ${
              JSON.stringify({ role: "authenticated", sub: member.userId })
            }, true)`;
            return await write(sql);
          });
        for (const table of ["server_generations", "secrets", "connection_secrets"]) {
          await assert.rejects(
            atDataApi((sql) => sql`insert into ${sql(`public.${table}`)} ${sql(ROWS[table](sql))}`),
            { code: "42501" },
            table,
          );
        }
        const moved = await atDataApi(async (sql) =>
          (await sql`update public.authorizations set trouble = 'moved'`).count
        );
        assert.equal(moved, 0);
        const [{ seen }] = await atDataApi(async (sql) =>
          await sql`select count(*)::int as seen from public.server_generations`
        ) as { seen: number }[];
        assert.ok(seen > 0, "and read as before");
      });

      await t.step("a revoked token stays revoked", async () => {
        await assert.rejects(
          as("owner", async (sql) => await sql`update agent_tokens set revoked_at = null`),
          { code: "42501" },
        );
      });

      await t.step("a revoked personal token stays revoked", async () => {
        await assert.rejects(
          as("owner", async (sql) => await sql`update personal_tokens set revoked_at = null`),
          { code: "42501" },
        );
      });

      await t.step("who acts within one workspace sees nothing of another", async () => {
        await addMember(world, other.workspaceId, user.userId, "owner");
        const tables = ["workspaces", "members", "toolboxes", "agents"];
        const seen = (within?: string) =>
          db.asUser({ ...user, within }, async (sql) => {
            const ids = [];
            for (const table of tables) {
              const column = sql(table === "workspaces" ? "id" : "workspace_id");
              ids.push(...await sql`select ${column} as id from ${sql(table)}`);
            }
            return [...new Set(ids.map(({ id }) => id))].toSorted();
          });
        assert.deepEqual(await seen(), [workspaceId, other.workspaceId].toSorted());
        assert.deepEqual(await seen(workspaceId), [workspaceId]);
        assert.deepEqual(await seen(other.workspaceId), [other.workspaceId]);
        assert.deepEqual(await seen(v7()), []);
        await owner`delete from public.members
          where workspace_id = ${other.workspaceId} and user_id = ${user.userId}`;
      });

      await t.step("an agent sees no tool that is not approved as it is now", async () => {
        const seen = () => as("own agent", async (sql) => (await sql`select from tools`).length);
        assert.equal(await seen(), 1);
        await owner`update public.tools set hash = 'changed'`;
        assert.equal(await seen(), 0, "changed");
        await owner`update public.tools set hash = approved_hash, present = false`;
        assert.equal(await seen(), 0, "gone");
        await owner`update public.tools set present = true, approved_hash = null`;
        assert.equal(await seen(), 0, "not approved");
      });

      await t.step("no hash and no ciphertext can be read by people or agents", async () => {
        const columns = [
          ["secrets", "ciphertext"],
          ["secrets", "iv"],
          ["agent_tokens", "token_hash"],
          ["authorizations", "ciphertext"],
          ["connection_secrets", "ciphertext"],
          ["personal_tokens", "token_hash"],
          ["toolboxes", "enrolment_hash"],
          ["invitations", "token_hash"],
        ];
        for (const [table, column] of columns) {
          for (const asker of ["owner", "own agent", "nobody"] as Asker[]) {
            await assert.rejects(
              as(asker, async (sql) => await sql`select ${sql(column)} from ${sql(table)}`),
              { code: "42501" },
              `${asker} ${table}.${column}`,
            );
          }
        }
      });

      // Beside rows: TRUNCATE passes row level security by, and whatever is in public is in a
      // Supabase project's API, where its default grants open each new thing to everybody.
      await t.step("roles of an API have no grant that no row is checked for", async () => {
        const API = ["anon", "authenticated", "mooring_agent", "mooring_toolbox"];
        const grants = await owner`
          select grantee, table_name, privilege_type from information_schema.role_table_grants
          where table_schema = 'public' and (grantee = 'anon' or grantee = any(${API})
            and privilege_type not in ('SELECT', 'INSERT', 'UPDATE', 'DELETE'))`;
        assert.deepEqual([...grants], []);
        const sealed = await owner`
          select r.rolname, a.attrelid::regclass::text as table, a.attname from pg_attribute a
          join pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p', 'v', 'm')
          cross join pg_roles r
          where c.relnamespace = 'public'::regnamespace and a.attnum > 0
            and (a.atttypid = 'bytea'::regtype or a.attname ~ '(token|enrolment|key)_hash$')
            -- Owners and admins may read what was said; it is sealed for copies of the database.
            and c.relname <> 'call_bodies'
            -- A toolbox's own secrets are opened in its name, for its DTMA.
            and r.rolname = any(${API}) and r.rolname <> 'mooring_toolbox' and has_column_privilege(r.oid, c.oid, a.attnum, 'select')`;
        assert.deepEqual([...sealed], []);
        const others = await owner`
          select relname as name from pg_class
          where relnamespace = 'public'::regnamespace and relkind in ('v', 'm', 'f', 'S')
            and (relkind <> 'S' or has_sequence_privilege('anon', oid, 'usage'))
          union all
          select p.proname from pg_proc p where p.pronamespace = 'public'::regnamespace
            and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')`;
        assert.deepEqual([...others], []);
      });

      await t.step("the app itself sees no row of any table", async () => {
        for (const { name } of tables) {
          await assert.rejects(
            async () => await db.asApp.unsafe(`select 1 from public."${name}"`),
            { code: "42501" },
          );
        }
        await assert.rejects(async () => await db.asApp`select 1 from mooring.nonces`, {
          code: "42501",
        });
      });

      await t.step("the app's functions are the app's alone", async () => {
        const open = await owner<{ role: string; name: string }[]>`
          select r.rolname as role, p.proname as name from pg_proc p cross join pg_roles r
          where p.pronamespace = 'mooring'::regnamespace
            and r.rolname in ('anon', 'authenticated', 'mooring_agent', 'mooring_toolbox')
            and has_function_privilege(r.oid, p.oid, 'execute')
            and p.proname not in ('claim', 'agent_id', 'toolbox_id', 'workspaces_as')
            -- Finds in a person's own workspaces alone: catalog_search_test.ts.
            -- Looks at nothing but what it is given.
            and p.proname <> 'is_official_registry'
            and (p.proname, r.rolname) not in
              (('search_catalog', 'authenticated'), ('catalog_words_like', 'authenticated'))
            -- An owner's: retention_test.ts.
            and (p.proname, r.rolname) <> ('keep_bodies', 'authenticated')
            -- A toolbox's own, for its own servers: toolboxes_test.ts.
            and (p.proname, r.rolname) not in
              (('roll_back', 'mooring_toolbox'), ('hold_servers', 'mooring_toolbox'))
            -- Tells members alone of their own workspace's forms: servers_test.ts.
            and (p.proname, r.rolname) <> ('server_of_deploy', 'authenticated')
            -- Of who let the client in alone: tests/oauth/scopes_test.ts.
            and (p.proname, r.rolname) <> ('step_up_client_grant', 'authenticated')
            -- Each asks who asks, under the workspace's lock: workspaces_test.ts.
            and not (r.rolname = 'authenticated' and p.proname in ('create_workspace', 'delete_workspace',
              'set_role', 'remove_member', 'transfer_workspace', 'invite', 'revoke_invitation',
              'accept_invitation'))`;
        assert.deepEqual([...open], []);
      });

      await world.close();
    },
  });
}
