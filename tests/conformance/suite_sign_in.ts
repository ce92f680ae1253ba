/** The client that the suite starts for its scenarios of authorization: client_authorization.ts is it, and asked here. */
const [control, url] = Deno.args;
const context = JSON.parse(Deno.env.get("MCP_CONFORMANCE_CONTEXT") ?? "{}");
const answer = await fetch(control, { method: "POST", body: JSON.stringify({ url, context }) });
console.log(await answer.text());
Deno.exit(answer.ok ? 0 : 1);
