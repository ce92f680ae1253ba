/**
 * How each MCP client is told of an agent's tools, in its own format. What is written here was looked
 * up in the document named beside it; README's "Clients" says which of it a real client has read.
 */

/** An agent's tools, and what opens them. */
export interface Bridge {
  /** Of the Streamable HTTP endpoint. */
  url: string;
  token: string;
}

/** One way to tell a client: a text, and where it goes. */
export interface Way {
  where: string;
  format: "json" | "yaml" | "toml" | "shell" | "text";
  text: string;
}

export interface Client {
  /** Stands in the ids of the page. */
  id: string;
  name: string;
  kind: Kind;
  /** The client's own document that says so. */
  source: string;
  ways: (bridge: Bridge) => Way[];
  /** What it cannot do, or what else it needs. */
  note?: string;
  /** Opens the client with all but the token, which stands in no address: addresses are kept in logs. */
  link?: (url: string) => { label: string; href: string };
}

export const KINDS = [
  "In a terminal",
  "In an editor",
  "Chats and desktop apps",
  "Programs",
] as const;
export type Kind = typeof KINDS[number];

/** What stands for the token where it is not known any more. */
export const TOKEN_PLACEHOLDER = "MOORING_TOKEN";

/** What clients call the server: tools are shown as `mooring: server__tool`, and names are short in most. */
const NAME = "mooring";

export const CLIENTS: Client[] = [
  {
    id: "claude-code",
    name: "Claude Code",
    kind: "In a terminal",
    source: "https://code.claude.com/docs/en/mcp",
    ways: ({ url, token }) => [
      {
        where: "For all your projects",
        format: "shell",
        text: command(
          "claude mcp add --scope user --transport http",
          NAME,
          url,
          "--header",
          bearer(token),
        ),
      },
      {
        where:
          "For a project and whoever works on it: .mcp.json, with the token in their environment",
        format: "json",
        text: json({
          mcpServers: {
            [NAME]: { type: "http", url, headers: authorization(`\${${TOKEN_PLACEHOLDER}}`) },
          },
        }),
      },
    ],
  },
  {
    id: "codex",
    name: "Codex",
    kind: "In a terminal",
    source: "https://developers.openai.com/codex/mcp",
    ways: ({ url, token }) => [
      {
        where: "~/.codex/config.toml, for the command line, the app and the editor's extension",
        format: "toml",
        text: [
          `[mcp_servers.${NAME}]`,
          `url = ${tomlString(url)}`,
          `http_headers = { Authorization = ${tomlString(`Bearer ${token}`)} }`,
        ].join("\n"),
      },
      {
        where: "Or by a command, with the token in the environment of each start",
        format: "shell",
        text: [
          `export ${TOKEN_PLACEHOLDER}=${word(token)}`,
          command("codex mcp add", NAME, "--url", url, "--bearer-token-env-var", TOKEN_PLACEHOLDER),
        ].join("\n"),
      },
    ],
  },
  {
    id: "copilot-cli",
    name: "GitHub Copilot CLI",
    kind: "In a terminal",
    source:
      "https://docs.github.com/en/copilot/how-tos/copilot-cli/customize-copilot/add-mcp-servers",
    ways: ({ url, token }) => [
      {
        where: "By a command",
        format: "shell",
        text: command("copilot mcp add --transport http", NAME, url, "--header", bearer(token)),
      },
      {
        where: "Or in ~/.copilot/mcp-config.json",
        format: "json",
        text: json({
          mcpServers: {
            [NAME]: { type: "http", url, headers: authorization(token), tools: ["*"] },
          },
        }),
      },
    ],
  },
  {
    id: "gemini-cli",
    name: "Gemini CLI",
    kind: "In a terminal",
    source: "https://geminicli.com/docs/tools/mcp-server/",
    ways: ({ url, token }) => [
      {
        where: "By a command",
        format: "shell",
        text: command(
          "gemini mcp add --scope user --transport http --header",
          bearer(token),
          NAME,
          url,
        ),
      },
      {
        where: "Or in ~/.gemini/settings.json",
        format: "json",
        // `url` without a type is an HTTP+SSE endpoint to older versions; `httpUrl` is one way in all.
        text: json({ mcpServers: { [NAME]: { httpUrl: url, headers: authorization(token) } } }),
      },
    ],
    note: "It starts no servers in a folder that you did not trust.",
  },
  {
    id: "opencode",
    name: "OpenCode",
    kind: "In a terminal",
    source: "https://opencode.ai/docs/mcp-servers/",
    ways: ({ url, token }) => [
      {
        where: "~/.config/opencode/opencode.json, or opencode.json in a project",
        format: "json",
        text: json({
          $schema: "https://opencode.ai/config.json",
          mcp: {
            // `oauth: false`: a refused token is told as such, and no sign-in is tried.
            [NAME]: {
              type: "remote",
              url,
              enabled: true,
              oauth: false,
              headers: authorization(token),
            },
          },
        }),
      },
    ],
    note: "OpenCode 2 has servers one level deeper, in mcp.servers.",
  },
  {
    id: "qwen-code",
    name: "Qwen Code",
    kind: "In a terminal",
    source: "https://qwenlm.github.io/qwen-code-docs/en/users/features/mcp/",
    ways: ({ url, token }) => [
      {
        where: "By a command",
        format: "shell",
        text: command(
          "qwen mcp add --scope user --transport http --header",
          bearer(token),
          NAME,
          url,
        ),
      },
      {
        where: "Or in ~/.qwen/settings.json",
        format: "json",
        text: json({ mcpServers: { [NAME]: { httpUrl: url, headers: authorization(token) } } }),
      },
    ],
  },
  {
    id: "cursor",
    name: "Cursor",
    kind: "In an editor",
    source: "https://cursor.com/docs/mcp",
    ways: ({ url, token }) => [
      {
        where: "~/.cursor/mcp.json, or .cursor/mcp.json in a project",
        format: "json",
        text: json({ mcpServers: { [NAME]: { url, headers: authorization(token) } } }),
      },
    ],
    // https://cursor.com/docs/mcp/install-links
    link: (url) => ({
      label: `Add to Cursor, which takes the token from ${TOKEN_PLACEHOLDER} in its environment`,
      href: `cursor://anysphere.cursor-deeplink/mcp/install?name=${NAME}&config=${
        encodeURIComponent(
          base64(JSON.stringify({ url, headers: authorization(`\${env:${TOKEN_PLACEHOLDER}}`) })),
        )
      }`,
    }),
  },
  {
    id: "vs-code",
    name: "VS Code",
    kind: "In an editor",
    source: "https://code.visualstudio.com/docs/copilot/reference/mcp-configuration",
    ways: ({ url, token }) => [
      {
        where: "For all your projects: the command “MCP: Open User Configuration”",
        format: "json",
        text: json({ servers: { [NAME]: { type: "http", url, headers: authorization(token) } } }),
      },
      {
        where: "For a project and whoever works on it: .vscode/mcp.json, which asks for the token",
        format: "json",
        text: json({ inputs: [VS_CODE_TOKEN], servers: { [NAME]: vsCodeServer(url) } }),
      },
    ],
    // microsoft/vscode, mcpWorkbenchService.ts: handleMcpInstallUri
    link: (url) => ({
      label: "Add to VS Code, which asks for the token",
      href: `vscode:mcp/install?${
        encodeURIComponent(
          JSON.stringify({ name: NAME, ...vsCodeServer(url), inputs: [VS_CODE_TOKEN] }),
        )
      }`,
    }),
  },
  {
    id: "windsurf",
    name: "Windsurf",
    kind: "In an editor",
    source: "https://docs.windsurf.com/windsurf/cascade/mcp",
    ways: ({ url, token }) => [
      {
        where: "~/.codeium/windsurf/mcp_config.json",
        format: "json",
        text: json({ mcpServers: { [NAME]: { serverUrl: url, headers: authorization(token) } } }),
      },
    ],
  },
  {
    id: "zed",
    name: "Zed",
    kind: "In an editor",
    source: "https://zed.dev/docs/ai/mcp",
    ways: ({ url, token }) => [
      {
        where:
          "Its settings file: ~/.config/zed/settings.json, on Windows %APPDATA%\\Zed\\settings.json",
        format: "json",
        text: json({ context_servers: { [NAME]: { url, headers: authorization(token) } } }),
      },
    ],
  },
  {
    id: "jetbrains",
    name: "JetBrains AI Assistant",
    kind: "In an editor",
    source: "https://www.jetbrains.com/help/ai-assistant/mcp.html",
    ways: (bridge) => [
      {
        where: "Settings, Tools, AI Assistant, Model Context Protocol (MCP), Add, As JSON",
        format: "json",
        text: json({ mcpServers: { [NAME]: throughMcpRemote(bridge) } }),
      },
    ],
    note: "Its documentation names no way to send a header, so mcp-remote does; it needs Node.js.",
  },
  {
    id: "cline",
    name: "Cline",
    kind: "In an editor",
    source: "https://docs.cline.bot/mcp/adding-and-configuring-servers",
    ways: ({ url, token }) => [
      {
        where: "MCP Servers, Configure, Configure MCP Servers (cline_mcp_settings.json)",
        format: "json",
        // Without the type it takes the URL for an HTTP+SSE endpoint.
        text: json({
          mcpServers: {
            [NAME]: {
              type: "streamableHttp",
              url,
              headers: authorization(token),
              disabled: false,
            },
          },
        }),
      },
      {
        where: "Or in a terminal, for the command line",
        format: "shell",
        text: command(
          "cline mcp add --yes --transport streamableHttp --header",
          bearer(token),
          NAME,
          url,
        ),
      },
    ],
  },
  {
    id: "roo-code",
    name: "Roo Code",
    kind: "In an editor",
    source: "https://docs.roocode.com/features/mcp/using-mcp-in-roo",
    ways: ({ url, token }) => [
      {
        where: "MCP Servers, Edit Global MCP (mcp_settings.json), or .roo/mcp.json in a project",
        format: "json",
        text: json({
          mcpServers: {
            [NAME]: { type: "streamable-http", url, headers: authorization(token) },
          },
        }),
      },
    ],
  },
  {
    id: "continue",
    name: "Continue",
    kind: "In an editor",
    source: "https://docs.continue.dev/customize/deep-dives/mcp",
    ways: ({ url, token }) => [
      {
        where: ".continue/mcpServers/mooring.yaml in a project; mcpServers goes into " +
          "~/.continue/config.yaml for all of them",
        format: "yaml",
        text: [
          "name: Mooring",
          "version: 1.0.0",
          "schema: v1",
          "mcpServers:",
          `  - name: ${NAME}`,
          "    type: streamable-http",
          `    url: ${yamlString(url)}`,
          "    requestOptions:",
          "      headers:",
          `        Authorization: ${yamlString(`Bearer ${token}`)}`,
        ].join("\n"),
      },
    ],
  },
  {
    id: "kiro",
    name: "Kiro",
    kind: "In an editor",
    source: "https://kiro.dev/docs/mcp/configuration/",
    ways: ({ url, token }) => [
      {
        where: "~/.kiro/settings/mcp.json, or .kiro/settings/mcp.json in a project",
        format: "json",
        text: json({ mcpServers: { [NAME]: { url, headers: authorization(token) } } }),
      },
    ],
    note: "Its command line, once Amazon Q Developer, reads the same files.",
  },
  {
    id: "claude-desktop",
    name: "Claude Desktop",
    kind: "Chats and desktop apps",
    source: "https://modelcontextprotocol.io/docs/develop/connect-local-servers",
    ways: (bridge) => [
      {
        where: "Settings, Developer, Edit Config: " +
          "~/Library/Application Support/Claude/claude_desktop_config.json, " +
          "on Windows %APPDATA%\\Claude\\claude_desktop_config.json",
        format: "json",
        text: json({ mcpServers: { [NAME]: throughMcpRemote(bridge) } }),
      },
    ],
    note: "The file takes programs alone, so mcp-remote stands in between; it needs Node.js.",
  },
  {
    id: "chatgpt",
    name: "ChatGPT",
    kind: "Chats and desktop apps",
    source: "https://developers.openai.com/api/docs/guides/developer-mode",
    ways: ({ url, token }) => [
      {
        where: "Settings, Apps, Advanced settings: turn developer mode on, then Create app",
        format: "text",
        text: [
          `Name: ${NAME}`,
          `MCP server URL: ${url}`,
          "Authentication: access token or API key",
          `Token: ${token}`,
        ].join("\n"),
      },
    ],
    note:
      "It calls from OpenAI's machines, so Mooring needs an https address that the internet reaches. " +
      "Where its dialog offers OAuth, the address alone is enough.",
  },
  {
    id: "goose",
    name: "Goose",
    kind: "Chats and desktop apps",
    source: "https://goose-docs.ai/docs/guides/config-files",
    ways: ({ url, token }) => [
      {
        where:
          "~/.config/goose/config.yaml, on Windows %APPDATA%\\Block\\goose\\config\\config.yaml",
        format: "yaml",
        text: [
          "extensions:",
          `  ${NAME}:`,
          "    type: streamable_http",
          `    name: ${NAME}`,
          "    enabled: true",
          `    uri: ${yamlString(url)}`,
          "    headers:",
          `      Authorization: ${yamlString(`Bearer ${token}`)}`,
          "    env_keys: []",
          "    envs: {}",
          "    timeout: 300",
        ].join("\n"),
      },
    ],
  },
  {
    id: "lm-studio",
    name: "LM Studio",
    kind: "Chats and desktop apps",
    source: "https://lmstudio.ai/docs/app/mcp",
    ways: ({ url, token }) => [
      {
        where: "The Program tab, Install, Edit mcp.json",
        format: "json",
        text: json({ mcpServers: { [NAME]: { url, headers: authorization(token) } } }),
      },
    ],
  },
  {
    id: "librechat",
    name: "LibreChat",
    kind: "Chats and desktop apps",
    source:
      "https://www.librechat.ai/docs/configuration/librechat_yaml/object_structure/mcp_servers",
    ways: ({ url, token }) => [
      {
        where: "librechat.yaml",
        format: "yaml",
        text: [
          "mcpServers:",
          `  ${NAME}:`,
          "    type: streamable-http",
          `    url: ${yamlString(url)}`,
          "    headers:",
          `      Authorization: ${yamlString(`Bearer ${token}`)}`,
        ].join("\n"),
      },
    ],
    note: "A private address has to be allowed in its mcpSettings too.",
  },
  {
    id: "n8n",
    name: "n8n",
    kind: "Programs",
    source:
      "https://docs.n8n.io/integrations/builtin/cluster-nodes/sub-nodes/n8n-nodes-langchain.toolmcp",
    ways: ({ url, token }) => [
      {
        where: "In the node MCP Client Tool",
        format: "text",
        text: [
          `Endpoint: ${url}`,
          "Server Transport: HTTP Streamable",
          "Authentication: Bearer Auth",
          `Bearer Token: ${token}`,
        ].join("\n"),
      },
    ],
  },
  {
    id: "openai-api",
    name: "OpenAI API",
    kind: "Programs",
    source: "https://developers.openai.com/api/docs/guides/tools-connectors-mcp",
    ways: ({ url, token }) => [
      {
        where: "In the body of a request to /v1/responses",
        format: "json",
        text: json({
          tools: [{
            type: "mcp",
            server_label: NAME,
            server_url: url,
            headers: authorization(token),
            require_approval: "always",
          }],
        }),
      },
    ],
    note: "OpenAI's machines call, so Mooring needs an https address that the internet reaches.",
  },
  {
    id: "inspector",
    name: "MCP Inspector",
    kind: "Programs",
    source: "https://github.com/modelcontextprotocol/inspector",
    ways: ({ url, token }) => [
      {
        where: "In a terminal",
        format: "shell",
        text: command(
          "npx @modelcontextprotocol/inspector --cli",
          url,
          "--transport",
          "http",
          "--method",
          "tools/list",
          "--header",
          bearer(token),
        ),
      },
    ],
  },
  {
    id: "any",
    name: "Any other client",
    kind: "Programs",
    source: "https://modelcontextprotocol.io/specification/2025-11-25/basic/transports",
    ways: (bridge) => [
      {
        where: "One that speaks Streamable HTTP",
        format: "text",
        text: `${bridge.url}\n${bearer(bridge.token)}`,
      },
      {
        where: "One that starts programs alone, as in mcpServers",
        format: "json",
        text: json({ mcpServers: { [NAME]: throughMcpRemote(bridge) } }),
      },
    ],
  },
];

const VS_CODE_TOKEN = {
  type: "promptString",
  id: "mooring-token",
  description: "Token of the agent, from Mooring",
  password: true,
};

function vsCodeServer(url: string) {
  return { type: "http", url, headers: authorization(`\${input:${VS_CODE_TOKEN.id}}`) };
}

/**
 * For clients that only start programs: mcp-remote speaks stdio to them and Streamable HTTP to the
 * bridge. The header comes by a variable because some clients on Windows split arguments at spaces
 * (https://www.npmjs.com/package/mcp-remote, "Custom headers").
 */
function throughMcpRemote({ url, token }: Bridge) {
  const { protocol, hostname } = new URL(url);
  const isLocal = ["localhost", "127.0.0.1", "[::1]"].includes(hostname);
  return {
    command: "npx",
    args: [
      "-y",
      "mcp-remote",
      url,
      "--transport",
      "http-only",
      "--header",
      "Authorization:${MOORING_AUTHORIZATION}",
      ...(protocol === "http:" && !isLocal ? ["--allow-http"] : []),
    ],
    env: { MOORING_AUTHORIZATION: `Bearer ${token}` },
  };
}

function authorization(token: string): { Authorization: string } {
  return { Authorization: `Bearer ${token}` };
}

function bearer(token: string): string {
  return `Authorization: Bearer ${token}`;
}

function json(value: unknown): string {
  return JSON.stringify(value, null, 2);
}

/** A double-quoted scalar of YAML 1.2, of which JSON is a part; DEL and the C1 controls are not. */
function yamlString(text: string): string {
  return JSON.stringify(text).replace(/[\x7f-\x9f]/g, escaped);
}

/** A basic string of TOML: JSON's escapes, and DEL has to be escaped as well. */
function tomlString(text: string): string {
  return JSON.stringify(text).replace(/\x7f/g, escaped);
}

function escaped(char: string): string {
  return `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

/** A command line: what it begins with as it is, and each word after it quoted where it has to be. */
function command(beginning: string, ...words: string[]): string {
  return [beginning, ...words.map(word)].join(" ");
}

/**
 * A word of a command line. Double quotes are what POSIX shells, PowerShell and cmd all take; single
 * ones are for what these would expand, which neither our tokens nor usual addresses hold.
 */
function word(text: string): string {
  if (/^[\w.:/@+-]+$/.test(text)) return text;
  return /^[\w.:/@+?&=;,#~()[\] -]*$/.test(text)
    ? `"${text}"`
    : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Standard Base64 of the text's UTF-8. */
function base64(text: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}
