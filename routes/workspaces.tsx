import { type Context, Hono } from "hono";
import { z } from "zod";
import { getChatModel, removeChatModel, setChatModel } from "../models/chat_models.ts";
import { Invalid, NotFound } from "../models/errors.ts";
import { listEvents } from "../models/events.ts";
import { invite, listInvitations, revokeInvitation } from "../models/invitations.ts";
import { errorFields } from "../models/log.ts";
import { invitationMail } from "../models/mail.ts";
import { getRetention, keepBodies, keepCalls } from "../models/retention.ts";
import { listMembers, removeMember, setRole, transferWorkspace } from "../models/members.ts";
import {
  createWorkspace,
  deleteWorkspace,
  holdingsOf,
  renameWorkspace,
} from "../models/workspaces.ts";
import { WorkspacePage, type WorkspaceProps } from "../views/workspace.tsx";
import { visibleText } from "../views/visible_text.ts";
import { Workspaces } from "../views/workspaces.tsx";
import { chooseWorkspace } from "./chosen_workspace.ts";
import type { AppDeps, Deps, Env } from "./deps.ts";
import { formOf, goTo, page } from "./render.tsx";

/** A person's workspaces: which there are, another one, and which the pages are about. */
export function workspacesRoutes({ db, baseUrl }: Deps) {
  return new Hono<Env>()
    .get("/workspaces", (c) => listPage(c))
    .post("/workspaces", async (c) => {
      const { name = "" } = await formOf(c);
      try {
        chooseWorkspace(c, baseUrl, await createWorkspace(db, c.get("user"), name));
        return goTo(c, "/workspace", "workspace-made");
      } catch (error) {
        if (!(error instanceof Invalid)) throw error;
        return listPage(c, { name, mistakes: error.fields });
      }
    })
    .post("/workspaces/:id/switch", (c) => {
      const id = c.req.param("id");
      if (!c.get("workspaces").some((workspace) => workspace.id === id)) {
        throw new NotFound("There is no such workspace");
      }
      chooseWorkspace(c, baseUrl, id);
      return goTo(c, "/");
    });

  function listPage(
    c: Context<Env>,
    again?: { name: string; mistakes: Record<string, string> },
  ) {
    const props = { workspaces: c.get("workspaces"), current: c.get("workspace")?.id, ...again };
    return page(c, "Workspaces", <Workspaces {...props} />, again ? 422 : 200);
  }
}

/** The chosen workspace: its name, members, invitations, and its end. */
export function workspaceRoutes(deps: AppDeps) {
  const { db, log } = deps;

  return new Hono<Env>()
    .get("/workspace", (c) => workspacePage(c))
    .post("/workspace/name", async (c) => {
      const { name = "" } = await formOf(c);
      return await again(c, { name }, async () => {
        await renameWorkspace(db, c.get("user"), c.get("workspace").id, name);
        return goTo(c, "/workspace", "workspace-renamed");
      });
    })
    .post("/workspace/members/:id/role", async (c) => {
      const { role = "" } = await formOf(c);
      await setRole(db, c.get("user"), c.get("workspace").id, c.req.param("id"), role);
      return goTo(c, "/workspace", "role-changed");
    })
    .post("/workspace/members/:id/remove", async (c) => {
      await removeMember(db, c.get("user"), c.get("workspace").id, c.req.param("id"));
      return goTo(c, "/workspace", "member-removed");
    })
    .post("/workspace/leave", async (c) => {
      await removeMember(db, c.get("user"), c.get("workspace").id, c.get("user").userId);
      return goTo(c, "/workspaces", "left");
    })
    .post("/workspace/transfer", async (c) => {
      const { memberId = "" } = await formOf(c);
      await transferWorkspace(db, c.get("user"), c.get("workspace").id, memberId);
      return goTo(c, "/workspace", "transferred");
    })
    .post("/workspace/invitations", async (c) => {
      const { role = "", days = "", email = "" } = await formOf(c);
      const to = email.trim(), user = c.get("user"), workspace = c.get("workspace");
      if (to && !z.email().max(254).safeParse(to).success) {
        const mistakes = { email: "Give an email address, or leave it empty for a link" };
        return await workspacePage(c, { values: { email, role, days }, mistakes });
      }
      const token = await invite(db, user, workspace.id, { role, days });
      const base = deps.baseUrl.href.replace(/\/$/, "");
      const link = `${base}/join?token=${token}`;
      if (to && deps.sendMail) {
        const invitation = { role, days: Number(days), link, workspace: workspace.name };
        const invitedBy = user.name || user.email;
        try {
          await deps.sendMail(invitationMail(to, { ...invitation, invitedBy }));
          return goTo(c, "/workspace", "invitation-sent");
        } catch (error) {
          log.error("An invitation could not be sent", errorFields(error));
          return await workspacePage(c, { newLink: link, unsentTo: to });
        }
      }
      // In the answer to the form itself: the link is shown this once.
      return await workspacePage(c, { newLink: link });
    })
    .post("/workspace/invitations/:id/revoke", async (c) => {
      await revokeInvitation(db, c.get("user"), c.req.param("id"));
      return goTo(c, "/workspace", "invitation-revoked");
    })
    .post("/workspace/retention", async (c) => {
      const { callsKeptDays = "" } = await formOf(c);
      await keepCalls(db, c.get("user"), c.get("workspace").id, Number(callsKeptDays));
      return goTo(c, "/workspace", "retention-saved");
    })
    .post("/workspace/bodies", async (c) => {
      const { isOn = "", bodiesKeptDays = "7" } = await formOf(c);
      const asked = { isOn: isOn === "true", days: Number(bodiesKeptDays) };
      await keepBodies(db, c.get("user"), c.get("workspace").id, asked);
      return goTo(c, "/workspace", asked.isOn ? "bodies-kept" : "bodies-deleted");
    })
    .post("/workspace/model", async (c) => {
      const form = await formOf(c);
      return await again(c, form, async () => {
        await setChatModel(deps, c.get("user"), c.get("workspace").id, form);
        return goTo(c, "/workspace#chat-model", "model-saved");
      });
    })
    .post("/workspace/model/remove", async (c) => {
      await removeChatModel(db, c.get("user"), c.get("workspace").id);
      return goTo(c, "/workspace#chat-model", "model-removed");
    })
    .post("/workspace/delete", async (c) => {
      const { confirmation = "" } = await formOf(c);
      return await again(c, { confirmation }, async () => {
        const { id } = c.get("workspace"), user = c.get("user");
        const { name } = await deleteWorkspace(db, user, id, confirmation);
        // Its events went with it: this is where it is told.
        log.info("A workspace was deleted", { workspace: id, name, by: user.userId });
        return goTo(c, "/workspaces", "workspace-deleted");
      });
    });

  /** A form that does not hold comes back with what was typed. */
  async function again(
    c: Context<Env>,
    values: Record<string, string>,
    take: () => Promise<Response>,
  ) {
    try {
      return await take();
    } catch (error) {
      if (!(error instanceof Invalid)) throw error;
      return await workspacePage(c, { values, mistakes: error.fields });
    }
  }

  async function workspacePage(
    c: Context<Env>,
    more: Pick<WorkspaceProps, "newLink" | "unsentTo" | "values" | "mistakes"> = {},
  ) {
    const user = c.get("user"), workspace = c.get("workspace");
    const props = {
      workspace,
      me: user.userId,
      sendsMail: Boolean(deps.sendMail),
      members: await listMembers(db, user, workspace.id),
      invitations: await listInvitations(db, user, workspace.id),
      chatModel: await getChatModel(db, user, workspace.id),
      holdings: await holdingsOf(db, user, workspace.id),
      retention: await getRetention(db, user, workspace.id),
      events: await listEvents(db, user, { workspaceId: workspace.id, layer: "workspace" }),
      ...more,
    };
    return page(
      c,
      visibleText(workspace.name),
      <WorkspacePage {...props} />,
      more.mistakes ? 422 : 200,
    );
  }
}
