import { v7 } from "uuid";
import {
  type Denial,
  type DesiredResponse,
  DTMA_VERSION,
  type EnrolRequest,
  HostFacts,
  type ImageScan,
  type Observation,
  type Report,
  type ResourceSample,
  type ServerSpec,
} from "../dtma/protocol.ts";
import { authorizationHeaders, noteRefusals } from "./authorizations.ts";
import type { Database, Sql, User } from "./db.ts";
import { hashListed, type Listed, writeListed } from "./definitions.ts";
import { Forbidden, NotFound } from "./errors.ts";
import { recordReportedEvents, withoutNul } from "./events.ts";
import { givesAuthorization } from "./remote_servers.ts";
import { openSecret, type SecretsKey } from "./secrets.ts";
import { resolveInputs } from "./server_form.ts";
import { TOOLBOX_SILENT_S } from "./server_status.ts";
import { instancesOf, ServerConfig, tierOf, transportOf } from "./servers.ts";
import { newToken, tokenHash } from "./tokens.ts";

export interface Toolbox {
  id: string;
  workspaceId: string;
  name: string;
  /** This machine's, run by the app's own start. */
  isLocal: boolean;
  facts: HostFacts | null;
  lastSeenAt: Date | null;
  /** Heard of within the last two long polls. */
  isOnline: boolean;
  /** Why its DTMA was refused when it was last heard of: another version of the protocol. */
  refusal: string | null;
  /** The version of DTMA that came with this app, where the toolbox's is older. */
  newerDtma: string | null;
  servers: number;
  /** What its running servers may take together. */
  promisedMiB: number;
  /** It has a key. */
  isEnrolled: boolean;
  /** Of a token that was not spent. */
  enrolmentExpiresAt: Date | null;
  labels: Record<string, string>;
  /** No new server is placed there. */
  drainedAt: Date | null;
  revokedAt: Date | null;
  /** A new key was asked for and is not there yet. */
  rotationAskedAt: Date | null;
}

/** The toolboxes of a workspace, oldest first. */
export async function listToolboxes(
  db: Database,
  user: User,
  workspaceId: string,
): Promise<Toolbox[]> {
  return await db.asUser(user, (sql) => readToolboxes(sql, sql`t.workspace_id = ${workspaceId}`));
}

/** @throws {NotFound} */
export async function getToolbox(db: Database, user: User, toolboxId: string): Promise<Toolbox> {
  const [toolbox] = await db.asUser(user, (sql) => readToolboxes(sql, sql`t.id = ${toolboxId}`));
  if (!toolbox) throw new NotFound("There is no such toolbox");
  return toolbox;
}

/**
 * The workspace and toolbox of this machine, made at the first start.
 *
 * @param options.enrol ask for a new enrolment token, single-use and valid for 15 minutes
 */
export async function putLocalToolbox(
  db: Database,
  { enrol }: { enrol: boolean },
): Promise<{ workspaceId: string; toolboxId: string; enrolmentToken: string | null }> {
  const token = enrol ? newToken("mte") : null;
  const [{ workspace_id, toolbox_id }] = await db.asApp`
    select * from mooring.put_local_toolbox(${v7()}, ${v7()}, ${token && await tokenHash(token)})`;
  return { workspaceId: workspace_id, toolboxId: toolbox_id, enrolmentToken: token };
}

/** Whether this machine's toolbox was never enrolled, or was and is heard of or not. */
export async function localToolboxState(db: Database): Promise<"new" | "heard" | "silent"> {
  const [{ state }] = await db.asApp`select mooring.local_toolbox_state() as state`;
  return state;
}

/**
 * Spends an enrolment token: the toolbox signs with the given key from now on.
 *
 * @returns the toolbox's id
 * @throws {Forbidden} when the token is unknown, spent or too old, or the address is not allowed
 */
export async function enrolToolbox(db: Database, request: EnrolRequest): Promise<string> {
  const rows = await db.asApp<{ enrol_toolbox: string }[]>`
    select mooring.enrol_toolbox(${await tokenHash(request.token)}, ${request.publicKey},
      ${jsonb(request.facts)}::text::jsonb)`;
  if (rows.length === 0) {
    throw new Forbidden(
      "The enrolment token is not valid: it serves once, for 15 minutes. Ask for a new one",
    );
  }
  return rows[0].enrol_toolbox;
}

/** The key a toolbox signs with, or null when it is unknown or revoked. */
export async function toolboxKey(
  db: Database,
  toolboxId: string,
): Promise<{ publicKey: string; workspaceId: string } | null> {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(toolboxId)) return null;
  const [row] = await db.asApp`select * from mooring.key_of_toolbox(${toolboxId})`;
  return row ? { publicKey: row.public_key, workspaceId: row.workspace_id } : null;
}

/**
 * Swaps the key a toolbox signs with.
 * @returns false when `oldKey` is not its key any more
 */
export async function rotateKey(
  db: Database,
  toolboxId: string,
  oldKey: string,
  newKey: string,
): Promise<boolean> {
  const [{ done }] = await db
    .asApp`select mooring.rotate_toolbox_key(${toolboxId}, ${oldKey}, ${newKey}) as done`;
  return done;
}

/**
 * Whether of all DTMAs with this toolbox's key the one of this epoch started last. The first time
 * that one is found not to be, the workspace's events say so.
 */
export async function isLatestDtma(
  db: Database,
  toolboxId: string,
  epoch: string,
): Promise<boolean> {
  const [{ latest }] = await db.asApp`select mooring.note_epoch(${toolboxId}, ${epoch}) as latest`;
  return latest;
}

/** True the first time a signature's nonce is seen, over all replicas. */
export async function isFirstUse(db: Database, keyId: string, nonce: string): Promise<boolean> {
  const [{ first }] = await db
    .asApp`select mooring.first_use_of_nonce(${keyId}, ${nonce}) as first`;
  return first;
}

/**
 * Where calls to a toolbox go, or null when its address is not one to be used: a toolbox names its
 * own, and must not be able to point the app at other services (SSRF). So this machine's is on the
 * loopback, and every other one is reached over TLS. A toolbox that dials the app has none.
 */
export function usableAddress(facts: HostFacts | null, isLocal: boolean): string | null {
  if (!facts?.address || facts.reach === "tunnel") return null;
  const { protocol, hostname, origin } = new URL(facts.address);
  const isUsable = isLocal
    ? protocol === "http:" && (hostname === "127.0.0.1" || hostname === "[::1]")
    : protocol === "https:";
  return isUsable ? origin : null;
}

/**
 * Notes that a toolbox was heard of, and what it says of its host; written when it changed, else at
 * most every 10 seconds.
 *
 * @param facts null where it says nothing new
 * @returns the version of what it should run; and whether a sign-in of one of its servers is to be renewed
 */
export async function touchToolbox(
  db: Database,
  toolboxId: string,
  facts: HostFacts | null,
): Promise<{ desiredVersion: string; isRenewalDue: boolean }> {
  return await db.asToolbox(toolboxId, async (sql) => {
    const text = facts && jsonb(facts);
    if (text) {
      await sql`
        update toolboxes set facts = ${text}::text::jsonb, refusal = null
        where facts is distinct from ${text}::text::jsonb or refusal is not null`;
    }
    await sql`
      update toolboxes set last_seen_at = now()
      where last_seen_at is null or last_seen_at < now() - interval '10 seconds'`;
    const [row] = await sql`
      select desired_version::text as version, exists (select from authorizations
        where state = 'signed_in' and renew_at <= now()
          and (renewing_until is null or renewing_until < now())) as due
      from toolboxes`;
    if (!row) throw new NotFound("There is no such toolbox");
    return { desiredVersion: row.version, isRenewalDue: row.due };
  });
}

/** Notes why the app and a toolbox's DTMA, which is heard of, cannot speak with each other. */
export async function refuseToolbox(db: Database, toolboxId: string, why: string): Promise<void> {
  await db.asToolbox(toolboxId, async (sql) => {
    await sql`update toolboxes set refusal = ${why} where refusal is distinct from ${why}`;
  });
}

/** What a toolbox should run, with its secrets opened: for that toolbox alone. */
export async function desiredOf(
  db: Database,
  toolboxId: string,
  secretsKey: SecretsKey,
): Promise<Omit<DesiredResponse, "appPublicKey">> {
  const wanted = await db.asToolbox(
    toolboxId,
    async (sql) => {
      // One statement, one snapshot: version and servers belong together.
      const [row] = await sql<
        {
          version: string;
          rotateKey: boolean;
          knowsTiers: boolean | null;
          knowsHeaders: boolean | null;
          knowsTransports: boolean | null;
          knowsInstanceAccounts: boolean | null;
          servers: ServerRow[] | null;
          sealed: SecretRow[] | null;
          accounts: AccountRow[] | null;
          ownSealed: (SecretRow & { agentId: string })[] | null;
          removing: { serverId: string; deleteVolumes: boolean }[] | null;
        }[]
      >`
      select t.desired_version::text as version, t.rotation_asked_at is not null as "rotateKey",
        (t.facts ->> 'knowsTiers')::boolean as "knowsTiers",
        (t.facts ->> 'knowsHeaders')::boolean as "knowsHeaders",
        (t.facts ->> 'knowsTransports')::boolean as "knowsTransports",
        (t.facts ->> 'knowsInstanceAccounts')::boolean as "knowsInstanceAccounts",
        (select json_agg(json_build_object('id', s.id, 'slug', s.slug, 'generation', s.generation,
            'running', s.running, 'config', g.config, 'authorization', case when a.server_id is not null then
              json_build_object('state', a.state, 'keyId', a.key_id, 'iv', encode(a.iv, 'base64'),
                'ciphertext', encode(a.ciphertext, 'base64')) end) order by s.id)
          from servers s join server_generations g on g.server_id = s.id and g.generation = s.generation
          left join authorizations a on a.server_id = s.id and a.agent_id is null
          where s.toolbox_id = t.id and s.removed_at is null) as servers,
        (select json_agg(json_build_object('id', x.id, 'serverId', x.server_id, 'name', x.name,
            'keyId', x.key_id, 'iv', encode(x.iv, 'base64'), 'ciphertext', encode(x.ciphertext, 'base64')))
          from secrets x) as sealed,
        (select json_agg(json_build_object('id', x.id, 'serverId', x.server_id, 'agentId', x.agent_id, 'name', x.name,
            'keyId', x.key_id, 'iv', encode(x.iv, 'base64'), 'ciphertext', encode(x.ciphertext, 'base64')))
          from connection_secrets x) as "ownSealed",
        (select json_agg(json_build_object('id', a.id, 'serverId', a.server_id, 'agentId', a.agent_id, 'state', a.state,
            'keyId', a.key_id, 'iv', encode(a.iv, 'base64'), 'ciphertext', encode(a.ciphertext, 'base64')))
          from authorizations a where a.agent_id is not null) as accounts,
        (select json_agg(json_build_object('serverId', s.id, 'deleteVolumes', s.delete_volumes))
          from servers s where s.toolbox_id = t.id and s.removed_at is not null) as removing
      from toolboxes t`;
      if (!row) throw new NotFound("There is no such toolbox");
      return {
        version: row.version,
        rotateKey: row.rotateKey,
        knowsTiers: row.knowsTiers ?? false,
        knowsHeaders: row.knowsHeaders ?? false,
        knowsTransports: row.knowsTransports ?? false,
        knowsInstanceAccounts: row.knowsInstanceAccounts ?? false,
        servers: row.servers ?? [],
        sealed: row.sealed ?? [],
        ownSealed: row.ownSealed ?? [],
        accounts: row.accounts ?? [],
        removing: row.removing ?? [],
      };
    },
  );
  const { version, servers, sealed, ownSealed, removing, rotateKey } = wanted;
  const { knowsTiers, knowsHeaders, knowsTransports, knowsInstanceAccounts, accounts } = wanted;
  return {
    version,
    removing,
    ...(rotateKey ? { rotateKey } : {}),
    servers: await Promise.all(servers.map(async (row): Promise<ServerSpec> => {
      const config = ServerConfig.parse(row.config);
      const secrets: Record<string, string> = {};
      // By the names that the generation has for them: an update may ask for a value by another one.
      for (const [name, id] of Object.entries(config.secrets)) {
        const secret = sealed.find((each) => each.id === id);
        if (secret) secrets[name] = await openSecret(secretsKey, id, unpacked(secret));
      }
      const { authorization } = row;
      const headers = authorization && authorization.state === "signed_in"
        ? await authorizationHeaders(secretsKey, row.id, unpacked(authorization))
        : null;
      const isSignedIn = authorization === null || headers !== null && knowsHeaders;
      const tier = tierOf(config);
      const transport = transportOf(config);
      const instances = instancesOf(config);
      const isOwn = ({ serverId }: { serverId: string }) =>
        instances === "agent" && serverId === row.id;
      const own = ownSealed.filter(isOwn), ownAccounts = accounts.filter(isOwn);
      const instanceInputs = await ownInputs(secretsKey, config, secrets, own, {
        hasShared: headers !== null,
        own: ownAccounts,
        areKnown: knowsInstanceAccounts,
      });
      return {
        serverId: row.id,
        generation: row.generation,
        name: row.slug,
        // One that knows no tiers would run it on its kernel, one that knows no headers without its
        // account, and one that knows no transports would wait for it on stdio: see statusOf for what a
        // person is told.
        running: row.running && (tier === "standard" || knowsTiers) && isSignedIn &&
          (transport.type === "stdio" || knowsTransports),
        ...(headers && knowsHeaders && { headers }),
        package: config.entry.package,
        network: { hosts: [...config.entry.network.hosts, ...config.options.hosts] },
        volumes: config.entry.volumes,
        memoryMiB: config.options.memoryMiB ?? config.entry.memoryMiB,
        // To a DTMA both are instances by the key of a call; an older one knows no other word.
        instances: instances === "session" ? "agent" : instances,
        idleStopS: config.options.idleStopS,
        restart: config.options.restart,
        tier,
        transport,
        ...resolveInputs(config.entry, config.values, secrets),
        ...(own.length + ownAccounts.length > 0 && { instanceInputs }),
      };
    })),
  };
}

/** What agents' own instances are started with in place of the server's inputs, by agent. */
async function ownInputs(
  secretsKey: SecretsKey,
  { entry, values }: ServerConfig,
  shared: Record<string, string>,
  sealed: (SecretRow & { agentId: string })[],
  accounts: { hasShared: boolean; own: AccountRow[]; areKnown: boolean },
): Promise<NonNullable<ServerSpec["instanceInputs"]>> {
  const own: Record<string, Record<string, string>> = {};
  for (const { agentId } of accounts.own) own[agentId] = {};
  for (const { agentId, ...secret } of sealed) {
    own[agentId] ??= {};
    own[agentId][secret.name] = await openSecret(secretsKey, secret.id, unpacked(secret));
  }
  const headersOf = async (agentId: string, secrets: Record<string, string>) => {
    const account = accounts.own.find((each) => each.agentId === agentId);
    if (!account) {
      // The server's account would take the place of the agent's own header.
      return accounts.hasShared && givesAuthorization(entry, secrets) ? { headers: {} } : {};
    }
    // Nor is it ever called with that of all, once it had its own.
    if (account.state !== "signed_in" || !accounts.areKnown) return { headers: {} };
    const headers = await authorizationHeaders(secretsKey, account.id, unpacked(account));
    return { headers, account: account.id };
  };
  return Object.fromEntries(
    await Promise.all(
      Object.entries(own).map(async ([agentId, secrets]) => [
        agentId,
        {
          ...resolveInputs(entry, values, { ...shared, ...secrets }),
          ...await headersOf(agentId, secrets),
        },
      ]),
    ),
  );
}

/**
 * Takes a toolbox's report, whole or not at all. One that is not newer than the last is ignored, so
 * that a repeated or late one changes nothing.
 *
 * @returns whether it was taken
 */
export async function acceptReport(
  db: Database,
  toolboxId: string,
  report: Report,
): Promise<boolean> {
  const listed = await Promise.all(report.observations.map(hashListed));
  return await db.asToolbox(toolboxId, async (sql) => {
    await holdForReport(sql, report);
    const { count } = await sql`
      update toolboxes set report_epoch = ${report.epoch}, report_sequence = ${report.sequence},
        last_seen_at = now()
      where report_epoch is null or report_epoch < ${report.epoch}
        or (report_epoch = ${report.epoch} and report_sequence < ${report.sequence})`;
    if (count === 0) return false;
    for (const [index, observation] of report.observations.entries()) {
      await writeObservation(sql, observation, listed[index]);
    }
    await recordReportedEvents(sql, report.events);
    await writeSamples(sql, report.samples ?? []);
    await writeDenials(sql, report.denials ?? []);
    await noteRefusals(sql, report.refusals ?? []);
    for (const { serverId, scan } of report.scans ?? []) await writeScan(sql, serverId, scan);
    for (const serverId of report.removed) {
      await sql`delete from servers where id = ${serverId} and removed_at is not null`;
    }
    return true;
  });
}

/**
 * Locks what people's changes and renewals lock before the toolbox's row, which a report has from then on: in
 * another order each would wait for the other.
 */
async function holdForReport(
  sql: Sql,
  { observations, removed, refusals = [] }: Report,
): Promise<void> {
  const gaveUp = observations.filter(({ gaveUp }) => gaveUp).map(({ serverId }) => serverId);
  const servers = [...gaveUp, ...removed];
  if (servers.length > 0) await sql`select mooring.hold_servers(${servers}::uuid[])`;
  const accounts = refusals.map(({ serverId, account }) => account ?? serverId);
  if (accounts.length > 0) {
    await sql`
      select from authorizations where id = any (${accounts}::uuid[]) order by id for no key update`;
  }
}

async function writeObservation(sql: Sql, seen: Observation, listed: Listed[]) {
  const { count } = await sql`
    insert into observations (server_id, workspace_id, generation, layers, image_digest, container_id,
      server_info, restarts, log_tail, serving_generation, gave_up, health, instances, volumes, sandbox,
      unsandboxed, observed_at)
    select s.id, s.workspace_id, ${seen.generation}, ${jsonb(seen.layers)}::text::jsonb, ${
    seen.imageDigest && withoutNul(seen.imageDigest)
  },
      ${seen.containerId && withoutNul(seen.containerId)}, ${
    json(seen.serverInfo)
  }::text::json, ${seen.restarts},
      ${json(seen.logTail)}::text::json, ${seen.servingGeneration}, ${seen.gaveUp},
      ${jsonb(seen.health)}::text::jsonb, ${jsonb(seen.instances)}::text::jsonb,
      ${jsonb(seen.volumes)}::text::jsonb, ${jsonb(seen.sandbox)}::text::jsonb,
      ${seen.unsandboxed && withoutNul(seen.unsandboxed)}, now()
    from servers s where s.id = ${seen.serverId} and s.generation >= ${seen.generation}
    on conflict (server_id) do update set generation = excluded.generation, layers = excluded.layers,
      image_digest = excluded.image_digest, container_id = excluded.container_id,
      server_info = excluded.server_info, restarts = excluded.restarts, log_tail = excluded.log_tail,
      serving_generation = excluded.serving_generation, gave_up = excluded.gave_up,
      health = excluded.health, instances = excluded.instances, volumes = excluded.volumes,
      sandbox = excluded.sandbox, unsandboxed = excluded.unsandboxed, observed_at = excluded.observed_at
    where observations.generation <= excluded.generation`;
  if (count === 0) return;
  if (seen.gaveUp) await sql`select mooring.roll_back(${seen.serverId}, ${seen.generation})`;
  if (seen.layers.tools.state === "ready") {
    await sql`
      update server_generations set ready_at = now()
      where server_id = ${seen.serverId} and generation = ${seen.generation} and ready_at is null`;
  }
  for (const each of listed) await writeListed(sql, seen.serverId, each);
}

/** How long samples are kept: what the charts show. */
const SAMPLES_KEPT = "2 hours";

async function writeSamples(sql: Sql, samples: ResourceSample[]) {
  if (samples.length === 0) return;
  await sql`
    insert into server_samples (server_id, workspace_id, instance, at, cpus, memory_bytes, received_bytes,
      sent_bytes, pids)
    select s.id, s.workspace_id, coalesce(x.instance, ''), x.at, x.cpus, x."memoryBytes", x."receivedBytes",
      x."sentBytes", x.pids
    from jsonb_to_recordset(${jsonb(samples)}::text::jsonb) as x ("serverId" uuid, instance text,
      at timestamptz, cpus double precision, "memoryBytes" bigint, "receivedBytes" bigint, "sentBytes" bigint,
      pids integer)
    join servers s on s.id = x."serverId"
    on conflict do nothing`;
  await sql`
    delete from server_samples where at < now() - ${SAMPLES_KEPT}::interval
      and server_id = any (${[...new Set(samples.map(({ serverId }) => serverId))]}::uuid[])`;
}

async function writeScan(sql: Sql, serverId: string, scan: ImageScan) {
  // By a toolbox's clock, which may run ahead.
  await sql`
    insert into server_scans (server_id, workspace_id, scan, scanned_at)
    select s.id, s.workspace_id, ${jsonb(scan)}::text::jsonb, least(${scan.at}::timestamptz, now())
    from servers s where s.id = ${serverId}
    on conflict (server_id) do update set scan = excluded.scan, scanned_at = excluded.scanned_at`;
}

/** Hosts that are listed of a server's refusals; a server that asks for ever new ones fills nothing. */
const DENIALS_PER_SERVER = 100;

async function writeDenials(sql: Sql, denials: Denial[]) {
  for (const { serverId, host, port, reason, count, at } of denials) {
    await sql`
      insert into egress_denials (server_id, workspace_id, host, port, reason, count, first_at, last_at)
      select s.id, s.workspace_id, ${withoutNul(host)}, ${port}, ${
      withoutNul(reason)
    }, ${count}, ${at}, ${at}
      from servers s where s.id = ${serverId} and (
        exists (select from egress_denials d where d.server_id = s.id and d.host = ${
      withoutNul(host)
    } and d.port = ${port})
        or (select count(*) from egress_denials d where d.server_id = s.id) < ${DENIALS_PER_SERVER})
      on conflict (server_id, host, port) do update set reason = excluded.reason,
        count = egress_denials.count + excluded.count, last_at = excluded.last_at`;
  }
}

interface ServerRow {
  id: string;
  slug: string;
  generation: number;
  running: boolean;
  config: unknown;
  /** Null where it is called with no account; sealed while signed in. */
  authorization: (Pick<SecretRow, "keyId" | "iv" | "ciphertext"> & { state: string }) | null;
}

/** An agent's own account; sealed while signed in. */
type AccountRow = Omit<SecretRow, "name"> & { agentId: string; state: string };

interface SecretRow {
  id: string;
  serverId: string;
  name: string;
  keyId: string;
  iv: string;
  ciphertext: string;
}

/** As text: json columns keep it as it is, and their driver would write `undefined` otherwise. */
function json(value: unknown): string {
  return JSON.stringify(value);
}

/** For jsonb, which refuses U+0000 and half a surrogate pair. */
function jsonb(value: unknown): string {
  return JSON.stringify(
    value,
    (_, item) => typeof item === "string" ? withoutNul(item).toWellFormed() : item,
  );
}

/** A sealed value as JSON carries it. */
function unpacked({ keyId, iv, ciphertext }: Pick<SecretRow, "keyId" | "iv" | "ciphertext">) {
  return { keyId, iv: bytesOf(iv), ciphertext: bytesOf(ciphertext) };
}

function bytesOf(base64: string): Uint8Array {
  return Uint8Array.from(atob(base64.replaceAll("\n", "")), (char) => char.charCodeAt(0));
}

/** For other models, within a person's transaction. */
export async function readToolboxes(sql: Sql, which: ReturnType<Sql>): Promise<Toolbox[]> {
  const rows = await sql<
    (Omit<Toolbox, "isOnline" | "newerDtma" | "facts"> & {
      facts: unknown;
      silentS: number | null;
    })[]
  >`
    select t.id, t.workspace_id as "workspaceId", t.name, t.is_local as "isLocal", t.facts,
      t.last_seen_at as "lastSeenAt", t.public_key is not null as "isEnrolled",
      t.enrolment_expires_at as "enrolmentExpiresAt", t.labels, t.drained_at as "drainedAt",
      t.revoked_at as "revokedAt", t.refusal, t.rotation_asked_at as "rotationAskedAt",
      extract(epoch from now() - t.last_seen_at)::float8 as "silentS",
      (select count(*)::int from servers s where s.toolbox_id = t.id) as servers,
      (select coalesce(sum(coalesce((g.config #>> '{options,memoryMiB}')::int,
          (g.config #>> '{entry,memoryMiB}')::int, 512)), 0)::int
        from servers s join server_generations g on g.server_id = s.id and g.generation = s.generation
        where s.toolbox_id = t.id and s.running and s.removed_at is null) as "promisedMiB"
    from toolboxes t where ${which} order by t.created_at, t.id`;
  return rows.map(({ silentS, facts: stored, ...row }) => {
    const facts = HostFacts.safeParse(stored).data ?? null;
    return {
      ...row,
      facts,
      isOnline: silentS !== null && silentS <= TOOLBOX_SILENT_S && row.revokedAt === null &&
        row.refusal === null,
      newerDtma: facts && isOlder(facts.dtmaVersion, DTMA_VERSION) ? DTMA_VERSION : null,
    };
  });
}

/** By the numbers of versions such as `1.2.3`. */
function isOlder(version: string, than: string): boolean {
  return version.localeCompare(than, "en", { numeric: true }) < 0;
}
