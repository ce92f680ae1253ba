import { type Context, Hono } from "hono";
import { z } from "zod";
import { Invalid } from "../models/errors.ts";
import {
  createPersonalToken,
  listPersonalTokens,
  revokePersonalToken,
  SCOPES,
} from "../models/personal_tokens.ts";
import { AccountTokens, type AccountTokensProps } from "../views/account_tokens.tsx";
import type { Deps, Env } from "./deps.ts";
import { goTo, page } from "./render.tsx";

const TokenForm = z.object({
  name: z.string(),
  expiresInDays: z.enum(["7", "30", "90", "365", "never"]).default("90"),
});

const PAGE = "/account/tokens";

/** A person's tokens for programs, of one workspace. */
export function accountTokenRoutes({ db, baseUrl }: Deps) {
  return new Hono<Env>()
    // Where they were once.
    .get("/profile", (c) => goTo(c, PAGE))
    .get(PAGE, (c) => tokensPage(c))
    .post(PAGE, async (c) => {
      const { scope = [], ...form } = await c.req.parseBody({ all: true });
      const scopes = [scope].flat().filter((each) => typeof each === "string");
      const parsed = TokenForm.safeParse(form);
      if (!parsed.success) throw new Invalid("Give the token a name and an expiry");
      const { name, expiresInDays } = parsed.data;
      try {
        const { token } = await createPersonalToken(db, c.get("user"), c.get("workspace").id, {
          name,
          scopes,
          expiresInDays: expiresInDays === "never" ? null : Number(expiresInDays),
        });
        // In the answer to the form itself: a token never stands in an address.
        return await tokensPage(c, { newToken: token });
      } catch (error) {
        if (!(error instanceof Invalid)) throw error;
        const values = { name, scopes, expiresInDays };
        return await tokensPage(c, { values, mistakes: error.fields });
      }
    })
    .post("/account/tokens/:id/revoke", async (c) => {
      await revokePersonalToken(db, c.get("user"), c.req.param("id"));
      return goTo(c, PAGE, "revoked");
    });

  async function tokensPage(
    c: Context<Env>,
    more: Pick<AccountTokensProps, "newToken" | "values" | "mistakes"> = {},
  ) {
    const person = c.get("user"), workspace = c.get("workspace");
    const tokens = await listPersonalTokens(db, person, workspace.id);
    const url = baseUrl.href.replace(/\/$/, "");
    const props = { workspace, tokens, scopes: SCOPES, baseUrl: url, ...more };
    return page(c, "Access tokens", <AccountTokens {...props} />, more.mistakes ? 422 : 200);
  }
}
