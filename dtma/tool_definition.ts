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

/** A prompt as a server lists it (MCP `Prompt`). */
export interface PromptDefinition {
  name: string;
  title?: string;
  description?: string;
  arguments?: unknown;
  [field: string]: unknown;
}

/** A resource template as a server lists it (MCP `ResourceTemplate`). */
export interface TemplateDefinition {
  name: string;
  uriTemplate: string;
  [field: string]: unknown;
}

/**
 * The hash a tool is pinned by: SHA-256, in hex, over the RFC 8785 canonical JSON of what an agent
 * acts on (name, title, description, schemas, annotations). The order of keys does not matter; that
 * of array items does.
 */
export async function canonicalHash(tool: ToolDefinition): Promise<string> {
  const { name, title, description, inputSchema, outputSchema, annotations } = tool;
  return await hashOf({ name, title, description, inputSchema, outputSchema, annotations });
}

/** The hash a prompt is pinned by, made as {@link canonicalHash} of what a person sees of it. */
export async function promptHash(prompt: PromptDefinition): Promise<string> {
  const { name, title, description, arguments: wanted } = prompt;
  return await hashOf({ name, title, description, arguments: wanted });
}

/** The hash a resource template is pinned by, likewise. */
export async function templateHash(template: TemplateDefinition): Promise<string> {
  const { name, title, description, uriTemplate, mimeType, annotations } = template;
  return await hashOf({ name, title, description, uriTemplate, mimeType, annotations });
}

/** The hash a server's instructions are pinned by. */
export async function instructionsHash(text: string): Promise<string> {
  return await hashOf({ text });
}

async function hashOf(value: unknown): Promise<string> {
  const digest = await crypto.subtle.digest(
    "SHA-256",
    new TextEncoder().encode(canonicalize(value)),
  );
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
