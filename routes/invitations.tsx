import { type Context, Hono } from "hono";
import { z } from "zod";
import { Conflict } from "../models/errors.ts";
import { ConfirmationNeeded, PASSWORD_MIN_LENGTH, SignInRefused } from "../models/identity.ts";
import {
  acceptInvitation,
  INVITATION_OVER,
  invitationOf,
  whileSigningUp,
} from "../models/invitations.ts";
import { workspacesOf } from "../models/workspaces.ts";
import { Join, type JoinProps } from "../views/invitation.tsx";
import { withCookies } from "./account.tsx";
import { chooseWorkspace } from "./chosen_workspace.ts";
import type { Deps, Env } from "./deps.ts";
import { showProblem } from "./problem.tsx";
import { formOf, goTo, page } from "./render.tsx";
import { mistakesOf } from "./session.tsx";

const Newcomer = z.object({
  email: z.email("Give an email address").max(254),
  name: z.string().trim().min(1, "Give your name").max(80, "At most 80 characters"),
  password: z.string()
    .min(PASSWORD_MIN_LENGTH, `At least ${PASSWORD_MIN_LENGTH} characters`)
    .max(256, "At most 256 characters"),
});

/**
 * Where an invitation's link leads, for one who is signed in or signs up. The token stands in the query,
 * which the log leaves out, as any link that lets somebody in by itself has to carry it.
 */
export function invitationRoutes({ db, identity, baseUrl }: Deps) {
  return new Hono<Env>()
    .get("/join", (c) => joinPage(c, c.req.query("token") ?? ""))
    .post("/join", async (c) => {
      const { token = "" } = await formOf(c);
      const person = await identity.userOf(c.req.raw.headers);
      if (!person) return joinPage(c, token);
      chooseWorkspace(c, baseUrl, await acceptInvitation(db, person, token));
      return goTo(c, "/workspace", "joined");
    })
    .post("/join/sign-up", async (c) => {
      const { token = "", ...form } = await formOf(c);
      const values = { email: form.email ?? "", name: form.name ?? "" };
      const parsed = Newcomer.safeParse(form);
      if (!parsed.success) {
        return joinPage(c, token, { values, mistakes: mistakesOf(parsed.error) });
      }
      const { email, name, password } = parsed.data;
      try {
        return await whileSigningUp(db, token, async (hold) => {
          const cookies = await identity.createAccount(email, name, password);
          const cookie = cookies.getSetCookie().map((each) => each.split(";")[0]).join("; ");
          const person = (await identity.userOf(new Headers({ cookie })))!;
          const joined = await acceptInvitation(db, person, token, hold).catch((error) => {
            // The account is made and theirs: they hear on the next page that it is in no workspace.
            if (error instanceof Conflict) return null;
            throw error;
          });
          if (joined) chooseWorkspace(c, baseUrl, joined);
          return withCookies(cookies, goTo(c, "/", joined ? "joined" : undefined));
        });
      } catch (error) {
        if (error instanceof ConfirmationNeeded) {
          return withCookies(error.cookies, goTo(c, "/sign-in", "confirm-address"));
        }
        if (!(error instanceof SignInRefused)) throw error;
        return joinPage(c, token, { values, mistakes: {}, mistake: error.message });
      }
    });

  async function joinPage(
    c: Context<Env>,
    token: string,
    again?: Pick<JoinProps, "values" | "mistakes" | "mistake">,
  ) {
    const invitation = await invitationOf(db, token);
    if (!invitation) return showProblem(c, 410, "The invitation is over", `${INVITATION_OVER}.`);
    const person = await identity.userOf(c.req.raw.headers);
    const isMember = person !== null &&
      (await workspacesOf(db, person)).some(({ id }) => id === invitation.workspaceId);
    const props = { invitation, token, person, isMember, ...again };
    return page(c, "Invitation", <Join {...props} />, again ? 422 : 200);
  }
}
