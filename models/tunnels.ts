/**
 * At which replica of the app the link of a toolbox behind NAT ends. The link itself is in that
 * replica's memory; this is how the others find it.
 */
import type { Database } from "./db.ts";

/** The toolbox's link ends here from now on; the newest one counts. */
export async function putTunnel(db: Database, toolboxId: string, address: string): Promise<void> {
  await db.asApp`select mooring.put_tunnel(${toolboxId}, ${address})`;
}

/** Says again, at least once a minute, that the link is still here. */
export async function tunnelSeen(db: Database, toolboxId: string, address: string): Promise<void> {
  await db.asApp`select mooring.tunnel_seen(${toolboxId}, ${address})`;
}

/** The link is not here any more; one that ends elsewhere meanwhile stays known. */
export async function dropTunnel(db: Database, toolboxId: string, address: string): Promise<void> {
  await db.asApp`select mooring.drop_tunnel(${toolboxId}, ${address})`;
}

/** The address of the replica that has the toolbox's link, or null. */
export async function replicaOfTunnel(db: Database, toolboxId: string): Promise<string | null> {
  const [row] = await db.asApp<{ address: string }[]>`
    select mooring.replica_of_tunnel(${toolboxId}) as address`;
  return row?.address ?? null;
}
