import { z } from "zod";
import { HostPort, Tier, Transport } from "../dtma/protocol.ts";

/** How a server runs, apart from what its entry asks. */
export const ServerOptions = z.object({
  /** Hosts allowed beside those of the entry, `host:port`. */
  hosts: z.array(HostPort).max(64).default([]),
  memoryMiB: z.int().min(64).max(65_536).nullable().default(null),
  instances: z.enum(["shared", "agent", "session"]).nullable().default(null),
  /** Seconds without a call after which an instance is stopped; null: never. */
  idleStopS: z.int().min(30).max(604_800).nullable().default(null),
  tier: Tier.nullable().default(null),
  transport: Transport.nullable().default(null),
  /** Grows with each restart that a person asks for. */
  restart: z.int().nonnegative().default(0),
});
export type ServerOptions = z.infer<typeof ServerOptions>;
