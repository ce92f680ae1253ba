import type { Database, User } from "./db.ts";

/** What one instance of a server took of its toolbox at one time. */
export interface Sample {
  at: Date;
  /** An agent's id, of that agent's own instance. */
  instance: string | null;
  /** 1 is one whole processor. */
  cpus: number;
  memoryBytes: number;
  /** Since the container's start. */
  receivedBytes: number;
  sentBytes: number;
  pids: number;
}

/** What a server took in the last hour, oldest first. */
export async function listSamples(db: Database, user: User, serverId: string): Promise<Sample[]> {
  return await db.asUser(user, async (sql) =>
    await sql<Sample[]>`
      select at, nullif(instance, '') as instance, cpus, memory_bytes::float8 as "memoryBytes",
        received_bytes::float8 as "receivedBytes", sent_bytes::float8 as "sentBytes", pids
      from server_samples where server_id = ${serverId} and at > now() - interval '1 hour'
      order by at`);
}
