import canonicalize from "canonicalize";

/** A tool as a server lists it (MCP `Tool`); fields Mooring does not know are kept as they are. */
export interface ToolDefinition {
  name: string;
  title?: string;
  description?: string;
  inputSchema?: unknown;
  outputSchema?: unknown;
  annotations?: unknown;
  [field: string]: unknown;
}

/**
 * The hash a tool is pinned by: SHA-256, in hex, over the RFC 8785 canonical JSON of what an agent
 * acts on (name, title, description, schemas, annotations). The order of keys does not matter; that
 * of array items does.
 */
export async function canonicalHash(tool: ToolDefinition): Promise<string> {
  const { name, title, description, inputSchema, outputSchema, annotations } = tool;
  const text = canonicalize({ name, title, description, inputSchema, outputSchema, annotations });
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
