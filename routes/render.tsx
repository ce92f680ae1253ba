import type { Context } from "hono";
import { raw } from "hono/html";
import type { Child } from "hono/jsx";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { Eyes, WORKSPACE_FIELD } from "../views/form.tsx";
import { Layout } from "../views/layout.tsx";
import { BasePath } from "../views/url.ts";
import type { Env } from "./deps.ts";

/** What a redirect may have the next page say; only these words, never text out of the address. */
const SAID: Record<string, string> = {
  approved: "Approved. Agents that are connected get these now.",
  withdrawn: "Approval withdrawn. Agents no longer get these.",
  saved: "Saved. The server is being redeployed.",
  "hosts-saved": "Saved. What it may reach is changed now.",
  updating: "Updating. The new version takes over once its tools are listed.",
  skipped: "Skipped. The next version is offered again.",
  "offered-again": "Offered again.",
  connected: "Connected.",
  disconnected: "Disconnected.",
  "belt-saved": "Saved. The agent's toolbelt is changed now.",
  "credentials-saved": "Saved. The agent's own instance is started anew at its next call.",
  "request-approved": "Approved, and done. The agent is told.",
  "request-rejected": "Rejected. The agent is told.",
  revoked: "The token is revoked.",
  "agent-removed": "The agent is removed.",
  renamed: "The toolbox has another name now.",
  labelled: "The labels are saved.",
  drained: "Drained. No new server is placed on this toolbox.",
  undrained: "New servers are placed on this toolbox again.",
  "key-asked": "Asked for a new key. The toolbox makes it as soon as it is heard of.",
  "toolbox-revoked": "Revoked. The toolbox's key is refused from now on.",
  "toolbox-removed": "The toolbox and its servers are removed.",
  "runs-cleared": "Forgotten. Your runs of this tool are deleted.",
  "account-connected": "The account is connected. Calls are made with it now.",
  "account-disconnected": "The account is disconnected.",
  "source-asked": "It is synced now. You can leave the page.",
  "source-read": "Read. Its entries are in the marketplace.",
  "source-saved": "Saved.",
  "source-removed": "The source and its entries are removed.",
  "conversation-renamed": "The conversation has another title now.",
  "conversation-deleted": "The conversation is deleted.",
  "conversing-saved": "Saved. The agent's next answer goes by it.",
  "model-saved": "Saved. The chat talks with this model now.",
  "model-removed": "The model and its key are forgotten.",
  "signed-out": "You are signed out.",
  "signed-out-everywhere": "You are signed out everywhere.",
  "workspace-made": "The workspace is made, and it is yours.",
  "workspace-renamed": "The workspace has another name now.",
  "retention-saved": "Saved. What is older is removed within minutes.",
  "bodies-kept": "Saved. What is said in calls is kept, from ten seconds on at the latest.",
  "bodies-deleted": "Nothing that is said is kept any more, and what was is deleted.",
  "workspace-deleted": "The workspace is deleted.",
  "role-changed": "The role is changed, from the next request on.",
  "member-removed": "The member is removed.",
  "transferred": "The workspace has another owner now, and you are an admin.",
  "invitation-revoked": "The invitation is revoked. Its link opens nothing any more.",
  "joined": "Welcome to the workspace.",
  "left": "You left the workspace.",
  "name-changed": "Your name is changed.",
  "password-changed": "Your password is changed. You are signed out everywhere else.",
  "email-changed": "You sign in with the new address from now on.",
  "email-asked":
    "Open the link that was sent to the new address. You sign in with it from then on.",
  "email-half-confirmed": "Confirmed. Open the link that was sent to your other address as well.",
  "sign-in-link-sent": "If the address has an account, a link that signs in is on its way to it.",
  "confirm-address":
    "Open the link that was sent to you, best in this browser. Then open your invitation again.",
  "passkey-added": "The passkey signs you in from now on.",
  "passkey-renamed": "The passkey has another name now.",
  "passkey-removed": "The passkey signs nobody in any more.",
  "password-link-sent": "If the address has an account, a link is on its way to it.",
  "password-set":
    "Your password is set. Sign in with it. Access tokens and clients that you let in go on working: they stand on your account's page, Signing in.",
  "invitation-sent": "The invitation is sent.",
  "second-factor-on": "From now on signing in asks for a code as well.",
  "second-factor-off": "Signing in asks for the password alone again.",
  "session-ended": "Signed out there.",
  "access-ended": "Ended. What shall act for you again takes another token, or connects anew.",
};

/** The path under which the app is mounted, without a slash at its end. */
export function basePathOf(c: Context<Env>): string {
  return c.get("assets").css.replace(/\/static\/.*$/, "");
}

/** JSX has no way to write it; without it browsers fall into quirks mode. */
const DOCTYPE = raw("<!doctype html>");

/** Answers with a whole page. */
export function page(
  c: Context<Env>,
  title: string,
  content: Child,
  status: ContentfulStatusCode = 200,
) {
  const base = basePathOf(c);
  const person = c.get("user"), workspace = c.get("workspace");
  c.header("cache-control", "no-store");
  return c.html(
    <Seen c={c}>
      {DOCTYPE}
      <Layout
        title={title}
        assets={c.get("assets")}
        viewer={person && workspace
          ? { person, workspace, workspaces: c.get("workspaces") ?? [workspace] }
          : null}
        path={c.req.path.slice(base.length) || "/"}
        said={SAID[c.req.query("said") ?? ""]}
      >
        {content}
      </Layout>
    </Seen>,
    status,
  );
}

/** Answers with a part of a page, for htmx to swap in. */
export function fragment(c: Context<Env>, content: Child, status: ContentfulStatusCode = 200) {
  c.header("cache-control", "no-store");
  return c.html(<Seen c={c}>{content}</Seen>, status);
}

/** A part's HTML as text. */
export async function htmlOf(c: Context<Env>, content: Child): Promise<string> {
  return String(await (<Seen c={c}>{content}</Seen>).toString());
}

/** What all views know: where the app is mounted, and whose eyes they are made for. */
function Seen({ c, children }: { c: Context<Env>; children?: Child }) {
  const workspace = c.get("workspace");
  const eyes = c.get("user") && workspace
    ? { role: workspace.role, workspaceId: workspace.id }
    : null;
  return (
    <BasePath.Provider value={basePathOf(c)}>
      <Eyes.Provider value={eyes}>{children}</Eyes.Provider>
    </BasePath.Provider>
  );
}

/** Sends the browser on after a form, by GET. */
export function goTo(c: Context<Env>, path: string, said?: keyof typeof SAID) {
  const [place, hash] = path.split("#");
  return c.redirect(
    basePathOf(c) + place + (said ? `?said=${said}` : "") + (hash ? `#${hash}` : ""),
    303,
  );
}

/** A form's text fields; of several of one name the last, as a checkbox behind its hidden twin. */
export async function formOf(c: Context<Env>): Promise<Record<string, string>> {
  const body = await c.req.parseBody({ all: true });
  const form: Record<string, string> = Object.create(null);
  for (const [name, value] of Object.entries(body)) {
    // Looked at where the workspace is found (workspace_of_request.tsx).
    if (name === WORKSPACE_FIELD) continue;
    const last = Array.isArray(value) ? value.at(-1) : value;
    if (typeof last === "string") form[name] = last.replaceAll("\r\n", "\n");
  }
  return form;
}
