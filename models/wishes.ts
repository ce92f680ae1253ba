/**
 * Wishes: what an agent that manages Mooring asks people to let it do. A person sees exactly what would be
 * done, adds the secrets that no agent gives, and approves or rejects it; what is approved is done as that
 * person, by what the pages do it with, and in the transaction that says that it was approved: once.
 */
import canonicalize from "canonicalize";
import { v7 } from "uuid";
import { z } from "zod";
import { connectServer } from "./agents.ts";
import {
  type CatalogRow,
  hashOfEntry,
  ListedEntry,
  readCatalogEntry,
  secretsOf,
} from "./catalog_entries.ts";
import type { Database, Sql, User } from "./db.ts";
import { Conflict, Forbidden, Invalid, NotFound } from "./errors.ts";
import { withoutNul } from "./events.ts";
import type { DigestOf } from "./image_digests.ts";
import type { ManagementScope } from "./management_grants.ts";
import type { SecretsKey } from "./secrets.ts";
import { BUILD_CONSENT } from "./server_form.ts";
import { deployServer } from "./servers.ts";
import { tokenHash } from "./tokens.ts";

/** Exactly what is asked. */
export const Asked = z.discriminatedUnion("operation", [
  z.object({
    operation: z.literal("deploy_server"),
    entry: z.string(),
    name: z.string(),
    /** By the deploy form's fields; never a secret. */
    values: z.record(z.string(), z.string()),
  }),
  z.object({ operation: z.literal("connect_server"), serverId: z.uuid() }),
]);
export type Asked = z.infer<typeof Asked>;

/** What that was about when it was asked. */
const Basis = z.union([
  z.object({ entry: ListedEntry }),
  z.object({ server: z.object({ name: z.string(), slug: z.string() }) }),
]);
export type Basis = z.infer<typeof Basis>;

/** The scope that each takes of an agent. */
export const SCOPE_OF: Record<Asked["operation"], ManagementScope> = {
  deploy_server: "servers:write",
  connect_server: "agents:write",
};

export const WISH_STATES = ["open", "approved", "rejected", "withdrawn", "expired"] as const;
export type WishState = typeof WISH_STATES[number];

export interface Wish {
  id: string;
  workspaceId: string;
  agentId: string;
  agentName: string;
  asked: Asked;
  basis: Basis;
  /** What it asks to do, in words that follow "asks to". */
  wants: string;
  /** The agent's own words: text, and nobody else's. */
  reason: string | null;
  state: WishState;
  createdAt: Date;
  expiresAt: Date;
  decidedAt: Date | null;
  decidedByName: string | null;
  /** What who rejected it said to the agent. */
  answer: string | null;
  /** What came of it. */
  serverId: string | null;
}

/** A wish with what it would come to now. */
export interface WishNow extends Wish {
  /** The entry that would be deployed; null: it is gone, or this is about no entry. */
  row: CatalogRow | null;
  /** The server that would be connected, likewise. */
  server: { id: string; name: string; slug: string; approvedTools: string[] } | null;
  /** The entry says something else than when the agent asked. */
  isChanged: boolean;
  /** Another one once something else would be done. */
  version: string;
}

/** Open ones of one agent; those made in a day, so that asking and taking back has an end as well. */
const OPEN_LIMIT = 20;
const DAY_LIMIT = 200;

// ── What an agent does ──────────────────────────────────────────────────────────────────────────────

/** A wish as its agent is told of it. */
export type OwnWish = Omit<Wish, "agentName" | "decidedByName">;

/**
 * Asks people. An identical wish that is open is the same one; one that was rejected is for a day not asked
 * again.
 *
 * @throws {Conflict} too many are open, or were made in a day
 */
export async function makeWish(
  db: Database,
  agent: { agentId: string; workspaceId: string },
  { asked, basis, wants, reason }: Pick<Wish, "asked" | "basis" | "wants" | "reason">,
): Promise<OwnWish> {
  const { agentId, workspaceId } = agent;
  const hash = await tokenHash(canonicalize(asked)!);
  return await db.asAgent(agentId, async (sql) => {
    await sql`select pg_advisory_xact_lock(hashtextextended(${agentId}, 1))`;
    await sql`
      update wishes set state = 'expired'
      where agent_id = ${agentId} and state = 'open' and expires_at <= now()`;
    const [same] = await readOwn(
      sql,
      sql`hash = ${hash} and (state = 'open'
        or state = 'rejected' and decided_at > now() - interval '1 day')`,
    );
    if (same) return same;
    const [{ open, today }] = await sql<{ open: number; today: number }[]>`
      select count(*) filter (where state = 'open')::int as open,
        count(*) filter (where created_at > now() - interval '1 day')::int as today
      from wishes where agent_id = ${agentId}`;
    if (open >= OPEN_LIMIT || today >= DAY_LIMIT) {
      throw new Conflict(
        open >= OPEN_LIMIT
          ? `${open} requests of this agent wait for a person already: wait for them, or withdraw some`
          : `This agent made ${today} requests in a day: try again tomorrow`,
      );
    }
    const id = v7();
    await sql`
      insert into wishes (id, workspace_id, agent_id, operation, asked, basis, hash, wants, reason)
      values (${id}, ${workspaceId}, ${agentId}, ${asked.operation}, ${sql.json(asked)},
        ${sql.json(basis)}, ${hash}, ${withoutNul(wants).slice(0, 200)},
        ${withoutNul(reason?.trim() ?? "").slice(0, 1000) || null})`;
    return (await readOwn(sql, sql`id = ${id}`))[0];
  });
}

/** An agent's own. @throws {NotFound} */
export async function wishOfAgent(db: Database, agentId: string, wishId: string): Promise<OwnWish> {
  const [wish] = await db.asAgent(agentId, (sql) => readOwn(sql, sql`id = ${wishId}`));
  if (!wish) throw new NotFound("This agent made no such request");
  return wish;
}

/** Takes a wish of the agent's own back; one that was decided stays as it is. @throws {NotFound} */
export async function withdrawWish(
  db: Database,
  agentId: string,
  wishId: string,
): Promise<OwnWish> {
  await db.asAgent(agentId, (sql) =>
    sql`update wishes set state = 'withdrawn', decided_at = now()
      where id = ${wishId} and state = 'open' and expires_at > now()`);
  return await wishOfAgent(db, agentId, wishId);
}

// ── What people do ──────────────────────────────────────────────────────────────────────────────────

/** A workspace's wishes, or one agent's: those that are open, oldest first, or the others, newest first. */
export async function listWishes(
  db: Database,
  user: User,
  workspaceId: string,
  { isOpen, agentId, limit = 50, before }: {
    isOpen: boolean;
    agentId?: string;
    limit?: number;
    /** The last one that is known: those behind it. */
    before?: string;
  },
): Promise<Wish[]> {
  return await db.asUser(user, (sql) =>
    readWishes(
      sql,
      sql`w.workspace_id = ${workspaceId}
        and ${isOpen ? sql`${isOpenNow(sql)}` : sql`not (${isOpenNow(sql)})`}
        and ${agentId ? sql`w.agent_id = ${agentId}` : sql`true`}
        and ${before ? (isOpen ? sql`w.id > ${before}` : sql`w.id < ${before}`) : sql`true`}
      order by w.id ${isOpen ? sql`asc` : sql`desc`} limit ${limit}`,
    ));
}

/** Wishes with what each would come to now. */
export async function wishesNow(db: Database, user: User, wishes: Wish[]): Promise<WishNow[]> {
  return await db.asUser(user, async (sql) => {
    const now: WishNow[] = [];
    for (const wish of wishes) now.push(await wishNow(sql, wish));
    return now;
  });
}

/** @throws {NotFound} */
export async function getWish(db: Database, user: User, wishId: string): Promise<WishNow> {
  return await db.asUser(user, async (sql) => await wishNow(sql, await readWish(sql, wishId)));
}

/** What a person says yes to, and adds. */
export interface Approval {
  /** Of the wish as they saw it. */
  version: string;
  toolboxId?: string;
  label?: string;
  /** The entry's secrets, the agreement to what its build runs, how far it is trusted; nothing else of it is read. */
  form: Record<string, string>;
}

/**
 * Does what an agent asked for, as the person. Approved twice it is done once.
 *
 * @throws {Conflict} something else would be done than the person saw, or it is decided or expired
 * @throws {Invalid} with a sentence for each field that does not hold: then nothing was done
 * @throws {Forbidden} for viewers
 */
export async function approveWish(
  { db, secretsKey, digestOf }: { db: Database; secretsKey: SecretsKey; digestOf?: DigestOf },
  user: User,
  wishId: string,
  { version, form, ...placed }: Approval,
): Promise<Wish> {
  const wish = await getWish(db, user, wishId);
  if (wish.state === "approved") return wish;
  if (wish.state !== "open") throw new Conflict(ENDED[wish.state]);
  if (version !== wish.version) {
    throw new Conflict("It is not what you saw any more: look at it again before you approve it");
  }
  const { asked, workspaceId } = wish;
  const approved = (sql: Sql, serverId: string) =>
    decide(sql, user, wishId, { state: "approved", answer: null, serverId });
  try {
    if (asked.operation === "connect_server") {
      const { serverId } = asked;
      await connectServer(db, user, wish.agentId, serverId, (sql) => approved(sql, serverId));
    } else {
      if (!wish.row) throw new Conflict("The marketplace does not have the entry any more");
      const { entry } = wish.row;
      await deployServer(
        db,
        user,
        {
          ...placed,
          workspaceId,
          slug: asked.entry,
          name: asked.name,
          entryHash: await hashOfEntry(entry),
          form: { ...addedBy(entry, form), ...asked.values },
          // Its own key, so that two who approve at once make one server.
          idempotencyKey: wishId,
          also: approved,
        },
        secretsKey,
        digestOf,
      );
    }
  } catch (error) {
    const now = error instanceof Conflict ? await getWish(db, user, wishId) : null;
    if (now?.state !== "approved") throw error;
  }
  return await getWish(db, user, wishId);
}

/**
 * Says no.
 *
 * @param answer to the agent; may be empty
 * @throws {Conflict} it is decided or expired
 * @throws {Forbidden} for viewers
 */
export async function rejectWish(
  db: Database,
  user: User,
  wishId: string,
  answer: string,
): Promise<Wish> {
  if (answer.trim().length > 1000) {
    const message = "The reason is too long: at most 1,000 characters fit";
    throw new Invalid(message, { answer: message });
  }
  return await db.asUser(user, async (sql) => {
    const said = withoutNul(answer.trim()) || null;
    await decide(sql, user, wishId, { state: "rejected", answer: said, serverId: null });
    return await readWish(sql, wishId);
  });
}

/** Rejects what an agent asked for beyond these scopes, in the transaction that says what it may. */
export async function rejectBeyond(
  sql: Sql,
  user: User,
  agentId: string,
  scopes: ManagementScope[],
): Promise<void> {
  const beyond = Object.entries(SCOPE_OF).filter(([, scope]) => !scopes.includes(scope))
    .map(([operation]) => operation);
  await sql`
    update wishes set state = 'rejected', decided_at = now(), decided_by = ${user.userId},
      answer = 'The agent may not do this any more'
    where agent_id = ${agentId} and operation = any (${beyond}) and state = 'open'
      and expires_at > now()`;
}

// ── Reading ─────────────────────────────────────────────────────────────────────────────────────────

const ENDED = {
  approved: "It was approved already",
  rejected: "It was rejected already",
  withdrawn: "The agent took it back",
  expired: "It has expired: the agent may ask again",
};

/** Whether it waits for a person: one that expired is not marked so before its agent asks again. */
const isOpenNow = (sql: Sql) => sql`w.state = 'open' and w.expires_at > now()`;

async function decide(
  sql: Sql,
  user: User,
  wishId: string,
  { state, answer, serverId }: {
    state: "approved" | "rejected";
    answer: string | null;
    serverId: string | null;
  },
): Promise<void> {
  const { count } = await sql`
    update wishes set state = ${state}, decided_at = now(), decided_by = ${user.userId},
      answer = ${answer}, server_id = ${serverId}
    where id = ${wishId} and state = 'open' and expires_at > now()`;
  if (count > 0) return;
  const { state: found } = await readWish(sql, wishId);
  if (found === "open") throw new Forbidden("Only members of the workspace can decide requests");
  throw new Conflict(ENDED[found]);
}

/** Of a form what a person may add to a wish: none of what the agent asked for. */
function addedBy(entry: ListedEntry, form: Record<string, string>): Record<string, string> {
  const fields = [...secretsOf(entry).map(({ field }) => field), BUILD_CONSENT, "option.tier"];
  return Object.fromEntries(
    fields.filter((field) => form[field] !== undefined).map((field) => [field, form[field]]),
  );
}

async function wishNow(sql: Sql, wish: Wish): Promise<WishNow> {
  const { asked, basis, workspaceId, id } = wish;
  if (asked.operation === "connect_server") {
    const [server] = await sql<NonNullable<WishNow["server"]>[]>`
      select s.id, s.name, s.slug, coalesce(array(
        select t.name from tools t where t.server_id = s.id and t.present and t.hash = t.approved_hash
        order by t.name), '{}') as "approvedTools"
      from servers s
      where s.id = ${asked.serverId} and s.workspace_id = ${workspaceId} and s.removed_at is null`;
    const version = await tokenHash(canonicalize([id, server?.approvedTools ?? null])!);
    return { ...wish, row: null, server: server ?? null, isChanged: false, version };
  }
  const row = await readCatalogEntry(sql, asked.entry, workspaceId).catch((error) => {
    if (error instanceof NotFound) return null;
    throw error;
  });
  const hash = row && await hashOfEntry(row.entry);
  const before = "entry" in basis ? await hashOfEntry(basis.entry) : null;
  return {
    ...wish,
    row,
    server: null,
    isChanged: hash !== null && hash !== before,
    version: await tokenHash(canonicalize([id, hash, row?.obstacle ?? null])!),
  };
}

async function readWish(sql: Sql, wishId: string): Promise<Wish> {
  const [wish] = await readWishes(sql, sql`w.id = ${wishId}`);
  if (!wish) throw new NotFound("There is no such request");
  return wish;
}

async function readWishes(sql: Sql, which: ReturnType<Sql>): Promise<Wish[]> {
  const rows = await sql<Unread<Wish>[]>`
    select ${columns(sql)}, a.name as "agentName",
      coalesce(nullif(p.name, ''), p.email) as "decidedByName"
    from wishes w join agents a on a.id = w.agent_id left join profiles p on p.user_id = w.decided_by
    where ${which}`;
  return rows.map(read);
}

/** Of the agent that the transaction is for; the newest first. */
async function readOwn(sql: Sql, which: ReturnType<Sql>): Promise<OwnWish[]> {
  const rows = await sql<Unread<OwnWish>[]>`
    select ${columns(sql)} from wishes w where ${which} order by w.id desc limit 1`;
  return rows.map(read);
}

function columns(sql: Sql) {
  return sql`w.id, w.workspace_id as "workspaceId", w.agent_id as "agentId", w.asked, w.basis, w.wants,
    w.reason, case when w.state = 'open' and w.expires_at <= now() then 'expired' else w.state end as state,
    w.created_at as "createdAt", w.expires_at as "expiresAt", w.decided_at as "decidedAt", w.answer,
    w.server_id as "serverId"`;
}

type Unread<Known extends OwnWish> = Omit<Known, "asked" | "basis"> & {
  asked: unknown;
  basis: unknown;
};

function read<Known extends OwnWish>(row: Unread<Known>): Known {
  return { ...row, asked: Asked.parse(row.asked), basis: Basis.parse(row.basis) } as Known;
}
