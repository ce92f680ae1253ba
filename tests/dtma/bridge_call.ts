/** Asks the bridge at `url`, as the agent whose token it is. @returns the answer's text */
export async function askBridge(
  url: string,
  token: string,
  method: string,
  params: Record<string, unknown>,
): Promise<string> {
  const response = await fetch(`${url}/mcp`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      "mcp-protocol-version": "2025-11-25",
    },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`The bridge answered ${response.status}: ${text}`);
  return text;
}

/** Calls a tool, likewise. */
export function callOverBridge(
  url: string,
  token: string,
  name: string,
  args: Record<string, unknown> = {},
): Promise<string> {
  return askBridge(url, token, "tools/call", { name, arguments: args });
}
