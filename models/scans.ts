import { ImageScan } from "../dtma/protocol.ts";
import type { Database, User } from "./db.ts";

/** What is known of the vulnerabilities in a server's image. */
export interface Scans {
  /** The newest; null: none was made. */
  scan: ImageScan | null;
  /** What scans images on its toolbox; null: nothing does. Undefined: its DTMA is too old to say. */
  scanner: string | null | undefined;
}

/** What a scanner found in a server's image, if there is one. */
export async function readScans(db: Database, user: User, serverId: string): Promise<Scans> {
  const [row] = await db.asUser(
    user,
    async (sql) =>
      await sql<{ scan: unknown; scanner: string | null; isTold: boolean }[]>`
      select c.scan, t.facts ->> 'scanner' as scanner, coalesce(t.facts ? 'scanner', false) as "isTold"
      from servers s join toolboxes t on t.id = s.toolbox_id
      left join server_scans c on c.server_id = s.id
      where s.id = ${serverId}`,
  );
  return {
    scan: ImageScan.safeParse(row?.scan).data ?? null,
    scanner: row?.isTold ? row.scanner : undefined,
  };
}
