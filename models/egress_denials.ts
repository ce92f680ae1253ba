/** What servers wanted to reach and may not, and what a person does about it. */
import { HostPort } from "../dtma/protocol.ts";
import type { Database, Sql, User } from "./db.ts";
import { Invalid } from "./errors.ts";
import { changing, nextGeneration, sayRequest, type Server } from "./servers.ts";

export interface EgressDenial {
  host: string;
  /** 0: its name was asked for, and it was not connected to. */
  port: number;
  reason: string;
  count: number;
  firstAt: Date;
  lastAt: Date;
}

/** What a server was refused lately, the newest first. */
export async function listDenials(
  db: Database,
  user: User,
  serverId: string,
): Promise<EgressDenial[]> {
  return await db.asUser(user, async (sql) =>
    await sql<EgressDenial[]>`
      select host, port, reason, count::int as count, first_at as "firstAt", last_at as "lastAt"
      from egress_denials where server_id = ${serverId} order by last_at desc limit 100`);
}

/** Lets a server reach one more host, from now on and without a restart. */
export async function allowHost(
  db: Database,
  user: User,
  serverId: string,
  hostPort: string,
): Promise<void> {
  const parsed = HostPort.safeParse(hostPort);
  if (!parsed.success) {
    throw new Invalid("A host is written as name:port, such as api.example.com:443");
  }
  await changing(db, user, serverId, async (sql, server) => {
    const { options, entry } = server.config;
    await forgetDenials(sql, serverId, hostPort);
    if ([...entry.network.hosts, ...options.hosts].includes(hostPort)) return;
    const hosts = [...options.hosts, hostPort];
    if (hosts.length > 64) throw new Invalid("A server may be allowed 64 hosts more at most");
    await withHosts(sql, user, server, hosts);
    await sayRequest(sql, user, server, `Allowed it to reach ${hostPort}`);
  });
}

/** Takes a host from those that a person allowed; its open connections end. */
export async function disallowHost(
  db: Database,
  user: User,
  serverId: string,
  hostPort: string,
): Promise<void> {
  await changing(db, user, serverId, async (sql, server) => {
    const { options } = server.config;
    const hosts = options.hosts.filter((each) => each !== hostPort);
    if (hosts.length === options.hosts.length) return;
    await withHosts(sql, user, server, hosts);
    await sayRequest(sql, user, server, `Allows it no more to reach ${hostPort}`);
  });
}

/** Stops listing a host that a server was refused, until it asks for it again. */
export async function dismissDenial(
  db: Database,
  user: User,
  serverId: string,
  hostPort: string,
): Promise<void> {
  await changing(db, user, serverId, (sql) => forgetDenials(sql, serverId, hostPort));
}

/** What it may reach says nothing of whether it runs: one that a person stopped stays stopped. */
function withHosts(sql: Sql, user: User, server: Server, hosts: string[]): Promise<void> {
  const config = { ...server.config, options: { ...server.config.options, hosts } };
  return nextGeneration(sql, user, server, config, server.running);
}

async function forgetDenials(sql: Sql, serverId: string, hostPort: string): Promise<void> {
  const colon = hostPort.lastIndexOf(":");
  await sql`
    delete from egress_denials where server_id = ${serverId} and host = ${hostPort.slice(0, colon)}
      and port in (0, ${Number(hostPort.slice(colon + 1)) || 0})`;
}
