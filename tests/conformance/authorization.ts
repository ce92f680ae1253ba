/** The suite's scenarios for authorization servers, against the app's own, with a person who says yes. */
import { createAgent } from "../../models/agents.ts";
import { localIdentity } from "../../models/local_identity.ts";
import { openOutside } from "../../models/outside.ts";
import { freePort } from "../free_port.ts";
import { addMember, KINDS, openWorld } from "../models/databases.ts";
import { decide } from "../oauth/client_flow.ts";
import { openPageApp } from "../routes/page_app.ts";
import { type Outcome, runSuite } from "./suite.ts";

const SUITE = "0.2.0-alpha.12";
const REVISIONS = ["2025-11-25", "2026-07-28"];

/** Runs them for each revision that has an authorization of today's kind. */
export async function runAuthorization(
  directory: string,
): Promise<(Outcome & { check: string })[]> {
  const world = await openWorld(KINDS[0]);
  const { db, workspaceId } = world;
  const port = freePort(), callbackPort = freePort(), baseUrl = `http://localhost:${port}`;
  const identity = localIdentity(db, {
    secret: "s".repeat(40),
    baseUrl: new URL(baseUrl),
    outside: openOutside(),
  });
  const { app, close } = await openPageApp({ db, identity }, { baseUrl });
  const cookies = await identity.createAccount("bea@example.com", "Bea", "a long enough password");
  const cookie = cookies.getSetCookie()[0].split(";")[0];
  const bea = (await identity.userOf(new Headers({ cookie })))!;
  await addMember(world, workspaceId, bea.userId, "member");
  const agent = await createAgent(db, bea, workspaceId, "An editor");
  const http = Deno.serve(
    { hostname: "127.0.0.1", port, onListen() {} },
    (request) => app.fetch(request, { clientIp: "127.0.0.1" }),
  );
  try {
    const registered = await app.request(`${baseUrl}/oauth/register`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ redirect_uris: [`http://127.0.0.1:${callbackPort}/callback`] }),
    });
    const { client_id } = await registered.json();
    const outcomes = [];
    for (const revision of REVISIONS) {
      const args = ["authorization", "--url", baseUrl, "--client-id", client_id];
      args.push("--resource", `${baseUrl}/mcp`, "--port", String(callbackPort));
      args.push("--spec-version", revision);
      let answered: Promise<unknown> | null = null;
      const results = await runSuite(SUITE, args, `${directory}/${revision}`, (said) => {
        const [asked] = /http:\S+\/oauth\/authorize\S+(?=\s)/.exec(said) ?? [];
        if (!asked || answered || !said.includes("Callback server started")) return;
        answered = sayYes(asked);
        answered.catch(() => {});
      });
      await answered;
      for (const [check, outcome] of results) {
        outcomes.push({ ...outcome, check: `${check} (${revision})` });
      }
    }
    return outcomes;
  } finally {
    await http.shutdown();
    await close();
    await world.close();
  }

  async function sayYes(asked: string) {
    const { pathname, search } = new URL(asked);
    const to = await decide(app, cookie, pathname + search, { agent }, baseUrl);
    await (await fetch(to)).body?.cancel();
  }
}
