/**
 * A fake of the official MCP registry's API (it cannot be reached from the tests' machines), by its documented
 * wire: `GET /v0.1/servers?cursor=&limit=&updated_since=` (docs/reference/api/openapi.yaml, 2025-12-01, and
 * the official registry's extensions of it).
 */
import type { Outside } from "../../models/outside.ts";

export interface FakeServer {
  name: string;
  version: string;
  isLatest?: boolean;
  status?: "active" | "deprecated" | "deleted";
  updatedAt: string;
  /** Members of its server.json besides, or in place of the usual ones. */
  server?: Record<string, unknown>;
}

export class FakeRegistry {
  servers: FakeServer[] = [];
  /** Each request's address. */
  asked: URL[] = [];
  /** Answers in place of its own, for the requests to come; null: its own. */
  next: (Response | null)[] = [];
  /** What a page says the next cursor is, in place of the true one. */
  cursorOf: ((at: number) => string | null) | null = null;
  /** Called before each answer. */
  before: () => Promise<void> = () => Promise.resolve();

  readonly outside: Outside = async (address) => {
    const url = new URL(address);
    this.asked.push(url);
    await this.before();
    const given = this.next.shift();
    if (given) return given;
    if (url.pathname !== "/v0.1/servers") return new Response("{}", { status: 404 });
    return Response.json(this.#page(url.searchParams));
  };

  #page(query: URLSearchParams) {
    const since = Date.parse(query.get("updated_since") ?? "");
    const limit = Math.min(Number(query.get("limit") ?? 30), 100);
    const found = this.servers.filter((server) =>
      // Deleted ones are told of to whom asks what changed.
      Number.isNaN(since) ? server.status !== "deleted" : Date.parse(server.updatedAt) > since
    );
    const at = found.findIndex((server) => keyOf(server) === query.get("cursor")) + 1;
    const page = found.slice(at, at + limit);
    const isLast = at + limit >= found.length;
    const cursor = this.cursorOf ? this.cursorOf(at) : isLast ? null : keyOf(page.at(-1)!);
    return {
      servers: page.map((server) => ({
        server: {
          $schema: "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
          name: server.name,
          description: `Does ${server.name}`,
          version: server.version,
          packages: [{
            registryType: "npm",
            identifier: `@fake/${server.name.split("/").at(-1)!.toLowerCase()}`,
            version: server.version,
            transport: { type: "stdio" },
          }],
          ...server.server,
        },
        _meta: {
          "io.modelcontextprotocol.registry/official": {
            status: server.status ?? "active",
            publishedAt: server.updatedAt,
            updatedAt: server.updatedAt,
            isLatest: server.isLatest ?? true,
          },
        },
      })),
      metadata: { count: page.length, ...cursor === null ? {} : { nextCursor: cursor } },
    };
  }
}

function keyOf({ name, version }: FakeServer): string {
  return `${name}:${version}`;
}
