/** Every page by role: what somebody may not do is not on it. The pages are those that the app's routes name. */
import assert from "node:assert/strict";
import { createPersonalToken } from "../../models/personal_tokens.ts";
import { createWorkspace } from "../../models/workspaces.ts";
import { openTrials } from "./trial_world.ts";

/** Addresses of forms that are anybody's own business. */
const OWN = /^\/(sign-out|workspaces(\/[^/]+\/switch)?|account(\/.*)?|join|workspace\/leave)$/;
const OWNERS = /^\/workspace\/(transfer|delete)$/;
const ADMINS = /^\/(workspace|toolboxes|marketplace\/sources)\b|^\/agents\/[^/]+\/management$/;

/** What is no page of a workspace: machines', doors', and what answers an act. */
const NO_PAGE =
  /^\/(\*|static|api\/v1|toolbox\/|mcp|sse|messages|healthz|readyz|schedule|oauth|setup|sign-in|new-password|\.well-known)|\/live$|\/results$/;

Deno.test({
  name: "pages by role",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    await using trials = await openTrials("mirror");
    const { app, db, owner, serverId, agentId, workspaceId } = trials;
    const by: Record<string, string> = {};
    for (const role of ["viewer", "member", "admin", "owner"]) {
      const { cookie, userId } = await trials.person(`${role}@example.com`);
      await owner`update public.members set role = ${role} where user_id = ${userId}`;
      // Another to switch to, and something to revoke.
      await createWorkspace(db, { userId }, "Another");
      const token = { name: "Mine", scopes: ["read"], expiresInDays: 30 };
      await createPersonalToken(db, { userId }, workspaceId, token);
      by[role] = cookie;
    }
    const [{ id: toolboxId }] = await owner<{ id: string }[]>`
      select toolbox_id as id from public.servers where id = ${serverId}`;

    const paths = [
      ...new Set(app.routes.filter(({ method }) => method === "GET").map(({ path }) => path)),
    ]
      .filter((path) => !NO_PAGE.test(path))
      .map((path) =>
        path.replace("/servers/:id", `/servers/${serverId}`)
          .replace("/agents/:id", `/agents/${agentId}`)
          .replace("/toolboxes/:id", `/toolboxes/${toolboxId}`)
          .replace(":slug", "filesystem").replace(":server", serverId).replace(":name", "mirror")
          .replace(/:[a-z]+/g, crypto.randomUUID())
      );
    const forms = new Map<string, Set<string>>();

    for (const [role, cookie] of Object.entries(by)) {
      await t.step(`a ${role} is shown what they may do`, async () => {
        const shown = new Set<string>();
        let pages = 0;
        for (const path of paths) {
          const response = await trials.ask(cookie, path);
          const html = await response.text();
          if (!response.headers.get("content-type")?.startsWith("text/html")) continue;
          pages++;
          for (const { action, inside } of formsOf(html)) {
            const plain = action.replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, "x");
            shown.add(plain);
            assert.match(inside, /name="_workspace" value="[0-9a-f-]{36}"/, `${path}: ${action}`);
            const isOwn = OWN.test(action);
            const hint = `${role} is shown ${action} on ${path}`;
            if (role === "viewer") assert.ok(isOwn, hint);
            if (role === "member") assert.ok(isOwn || !ADMINS.test(action), hint);
            if (role === "admin") assert.ok(!OWNERS.test(action), hint);
          }
          if (role === "viewer") {
            const rest = html.replaceAll(/<form\b[\s\S]*?<\/form>/g, "");
            assert.doesNotMatch(rest, /<button(?![^>]*type="button")/, `a loose button on ${path}`);
            assert.doesNotMatch(rest, /hx-(post|put|patch|delete)=/, path);
          }
        }
        assert.ok(pages > 20, `${pages} pages`);
        forms.set(role, shown);
      });
    }

    await t.step("whoever may more is shown more", () => {
      const [viewer, member, admin, ownerForms] = ["viewer", "member", "admin", "owner"].map((
        role,
      ) => forms.get(role)!);
      const acts = {
        member: ["/servers/x/stop", "/servers/x/tools", "/agents", "/agents/x/tokens", "/servers"],
        admin: [
          "/workspace/invitations",
          "/toolboxes",
          "/marketplace/sources",
          "/toolboxes/x/name",
        ],
        owner: ["/workspace/transfer"],
      };
      for (const act of acts.member) assert.ok(!viewer.has(act) && member.has(act), act);
      for (const act of acts.admin) assert.ok(!member.has(act) && admin.has(act), act);
      for (const act of acts.owner) assert.ok(!admin.has(act) && ownerForms.has(act), act);
      for (const act of ["/sign-out", "/account/name", "/account/tokens", "/workspace/leave"]) {
        assert.ok(viewer.has(act), act);
      }
    });

    await t.step("a viewer is told so, and reads what others approve", async () => {
      const page = async (path: string) => await (await trials.ask(by.viewer, path)).text();
      assert.match(await page("/servers"), /You are a viewer here/);
      assert.doesNotMatch(await page("/account"), /You are a viewer here/);
      const html = await page(`/agents/${agentId}/connections/${serverId}`);
      assert.match(html, /mirror/);
      assert.doesNotMatch(html, /type="checkbox"/);
    });

    await t.step("what changes live on a page is made for the same eyes", async () => {
      const firstEvent = async (cookie: string) => {
        const response = await trials.ask(cookie, `/servers/${serverId}/live`);
        const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
        let text = "";
        while (!text.includes("\n\n")) text += (await reader.read()).value ?? "";
        await reader.cancel();
        return text;
      };
      assert.match(await firstEvent(by.member), /\/stop"/);
      assert.doesNotMatch(await firstEvent(by.viewer), /<form/);
    });
  },
});

function formsOf(html: string): { action: string; inside: string }[] {
  return [...html.matchAll(/<form\b([^>]*)>([\s\S]*?)<\/form>/g)]
    .filter(([, tag]) => /method="post"/.test(tag))
    .map(([, tag, inside]) => ({ action: /action="([^"]*)"/.exec(tag)![1], inside }));
}
