/** The account's pages, with mail through a real SMTP server: address, codes, a forgotten password. */
import assert from "node:assert/strict";
import { openMailer } from "../../mailer.ts";
import { localIdentity } from "../../models/local_identity.ts";
import {
  agentOfToken,
  createAgent,
  createToken,
  getAgent,
  grantClient,
} from "../../models/agents.ts";
import {
  bearerOfToken,
  createPersonalToken,
  revokePersonalToken,
} from "../../models/personal_tokens.ts";
import { addMember, KINDS, openWorld } from "../models/databases.ts";
import { startMailServer } from "./mail_server.ts";
import { openPageApp, ORIGIN } from "./page_app.ts";

const PASSWORD = "a long enough password";
const FROM = "Mooring <mooring@example.com>";

Deno.test({
  name: "the account's pages",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    const world = await openWorld(KINDS[0]);
    const { db, owner, workspaceId } = world;
    const smtp = await startMailServer();
    const sendMail = openMailer({ smtpUrl: smtp.url, from: FROM });
    const secret = "a secret for tests, long enough", baseUrl = new URL(ORIGIN);
    const identity = localIdentity(db, { secret, baseUrl, sendMail });
    const lines: string[] = [];
    const { app, close } = await openPageApp({ db, identity }, {
      sendMail,
      say: (line) => lines.push(line),
    });
    const silent = await openPageApp({ db, identity: localIdentity(db, { secret, baseUrl }) });

    /** Asks the app from an address of its own: tries are counted by address. */
    const ask = async (
      path: string,
      { form, cookie = "", clientIp = "10.0.0.1", of = app }: {
        form?: Record<string, string>;
        cookie?: string;
        clientIp?: string;
        of?: typeof app;
      } = {},
    ) => {
      const headers = { cookie, origin: ORIGIN };
      const init = form
        ? { method: "POST", body: new URLSearchParams(form), headers }
        : { headers };
      const response = await of.request(ORIGIN + path, init, { clientIp });
      return {
        status: response.status,
        location: response.headers.get("location"),
        cookie: response.headers.getSetCookie().map((each) => each.split(";")[0]).join("; "),
        html: await response.text(),
      };
    };
    const person = async (email: string, role = "member") => {
      const made = await identity.createAccount(email, email.split("@")[0], PASSWORD);
      const cookie = made.getSetCookie()[0].split(";")[0];
      const { userId } = (await identity.userOf(new Headers({ cookie })))!;
      await addMember(world, workspaceId, userId, role);
      return { cookie, userId };
    };
    const signIn = (email: string, password: string) =>
      ask("/sign-in", { form: { email, password }, clientIp: "10.0.0.2" });

    await t.step("the old address of the tokens leads to where they are", async () => {
      const { cookie } = await person("old@example.com");
      assert.equal((await ask("/profile", { cookie })).location, "/account/tokens");
    });

    await t.step(
      "the address is changed with the password, and the one before is told",
      async () => {
        const { cookie, userId } = await person("bea@example.com");
        const change = (email: string, password: string) =>
          ask("/account/email", { form: { email, password }, cookie });
        const wrong = await change("bea@new.example", "wrong wrong wrong");
        assert.equal(wrong.status, 422);
        assert.match(wrong.html, /not your present password/);
        assert.match(wrong.html, /value="bea@new.example"/);
        assert.equal((await change("nothing of the kind", PASSWORD)).status, 422);
        const taken = await change("old@example.com", PASSWORD);
        assert.equal(taken.status, 422);
        assert.match(taken.html, /Another account has this address/);
        const changed = await change("Bea@New.example", PASSWORD);
        assert.equal(changed.location, "/account?said=email-changed", changed.html);
        const told = await smtp.taken("bea@example.com");
        assert.match(told.text, /bea@new\.example/);
        assert.equal((await signIn("bea@example.com", PASSWORD)).status, 422);
        assert.equal((await signIn("bea@new.example", PASSWORD)).location, "/");
        const [profile] = await owner<{ email: string }[]>`
        select email from public.profiles where user_id = ${userId}`;
        assert.equal(profile.email, "bea@new.example");
      },
    );

    await t.step(
      "a forgotten password: one answer, one link, one use, out everywhere",
      async () => {
        const { cookie } = await person("cy@example.com");
        assert.match((await ask("/sign-in")).html, /href="\/new-password"/);
        assert.match((await ask("/new-password")).html, /Send the link/);
        const asked = (email: string, clientIp: string) =>
          ask("/new-password/link", { form: { email }, clientIp });
        const unknown = await asked("nobody@example.com", "10.0.0.3");
        const known = await asked("cy@example.com", "10.0.0.3");
        assert.deepEqual(known, unknown, "the two are told alike");
        const mail = await smtp.taken("cy@example.com");
        assert.equal(mail.from, "mooring@example.com");
        assert.match(mail.text, /^Subject: A new password for Mooring\r?$/m);
        const token = /\/new-password\?token=([^\s]+)/.exec(mail.text)![1];
        const [{ found }] = await owner<{ found: boolean }[]>`
        select exists (select from auth.verifications where identifier like ${`%${token}%`}) as found`;
        assert.equal(found, false, "the table has the token's hash alone");

        assert.match((await ask(`/new-password?token=${token}`)).html, /Set the password/);
        const set = (password: string, by = token) =>
          ask("/new-password", { form: { token: by, password }, clientIp: "10.0.0.4" });
        assert.equal((await set("short")).status, 422);
        assert.equal((await set("another long password", "made-up")).status, 422);
        const done = await set("another long password");
        assert.equal(done.location, "/sign-in?said=password-set", done.html);
        assert.match((await smtp.taken("cy@example.com")).text, /was changed/);
        assert.equal((await ask("/account", { cookie })).status, 303, "signed out everywhere");
        assert.equal((await signIn("cy@example.com", PASSWORD)).status, 422);
        assert.equal((await signIn("cy@example.com", "another long password")).location, "/");
        const again = await set("a third long password");
        assert.equal(again.status, 422);
        assert.match(again.html, /used already or is too old/);
        assert.equal(lines.join("\n").includes(token), false, "no token in the log");
      },
    );

    await t.step("a password that is set or changed ends the links that are open", async () => {
      const { cookie } = await person("gil@example.com");
      let asked = 0;
      const link = async () => {
        const clientIp = `10.0.2.${++asked}`;
        await ask("/new-password/link", { form: { email: "gil@example.com" }, clientIp });
        return /token=([^\s]+)/.exec((await smtp.taken("gil@example.com")).text)![1];
      };
      const set = (token: string, password: string) =>
        ask("/new-password", { form: { token, password }, clientIp: "10.0.2.0" });
      const before = await link();
      const next = "another long password";
      const changed = await ask("/account/password", { form: { present: PASSWORD, next }, cookie });
      assert.equal(changed.location, "/account/security?said=password-changed", changed.html);
      assert.equal((await set(before, "an older link's")).status, 422);
      const [one, other] = [await link(), await link()];
      assert.equal((await set(one, "a third long password")).status, 303);
      await smtp.taken("gil@example.com");
      assert.equal((await set(other, "another link's password")).status, 422);
    });

    await t.step(
      "what outlives a password is told with its number, and ended at once",
      async () => {
        const { cookie, userId } = await person("ida@example.com");
        const other = await person("ivo@example.com");
        const user = { userId };
        assert.doesNotMatch((await ask("/account/security", { cookie })).html, /What acts for you/);
        const make = (name: string) =>
          createPersonalToken(db, user, workspaceId, { name, scopes: ["read"], expiresInDays: 7 });
        const [{ token }, { id }] = [await make("script"), await make("revoked")];
        await revokePersonalToken(db, user, id);
        const agentId = await createAgent(db, user, workspaceId, "Ida's");
        const own = await createToken(db, user, agentId, { name: "own", expiresInDays: null });
        const client = { id: "a-client", name: "An editor", uri: null, host: "this computer" };
        await grantClient(db, user, agentId, client);
        await grantClient(db, { userId: other.userId }, agentId, { ...client, id: "another" });

        const form = { email: "ida@example.com" };
        await ask("/new-password/link", { form, clientIp: "10.0.3.1" });
        const link = /token=([^\s]+)/.exec((await smtp.taken("ida@example.com")).text)![1];
        const password = "another long password";
        const set = await ask("/new-password", { form: { token: link, password } });
        assert.match((await ask(set.location!)).html, /clients that you let in go on working/);
        const { text } = await smtp.taken("ida@example.com");
        assert.match(text, /access tokens of yours \(1\), and clients that you\s+let in \(1\)/);
        assert.match(text, /\/account\/security/);

        const again = (await signIn("ida@example.com", password)).cookie;
        const page = (await ask("/account/security", { cookie: again })).html;
        assert.match(page, /1 access token of yours and 1 client\s+that you let in/);
        const ended = await ask("/account/access/end", { form: {}, cookie: again });
        assert.equal(ended.location, "/account/security?said=access-ended");
        assert.equal(await bearerOfToken(db, token), null);
        const live = (await getAgent(db, user, agentId)).tokens.filter(({ revokedAt }) =>
          !revokedAt
        );
        assert.deepEqual(
          live.map(({ clientId }) => clientId).toSorted(),
          ["another", null],
          "another's client, and the agent's own token",
        );
        assert.ok(await agentOfToken(db, own.token));
        assert.doesNotMatch(
          (await ask("/account/security", { cookie: again })).html,
          /What acts for you/,
        );
      },
    );

    await t.step("asking for links is limited, and does not fill a mailbox", async () => {
      await person("dee@example.com");
      const statuses = new Set<number>();
      for (let i = 0; i < 8; i++) {
        const form = { email: "dee@example.com" };
        statuses.add((await ask("/new-password/link", { form, clientIp: "10.0.0.5" })).status);
      }
      assert.deepEqual([...statuses].toSorted(), [303, 429]);
      for (let i = 0; i < 8; i++) {
        const form = { email: "dee@example.com" };
        const one = await ask("/new-password/link", { form, clientIp: `10.0.1.${i}` });
        assert.equal(one.status, 303, "whoever asks is told the same");
      }
      const mark = await person("mark@example.com");
      await ask("/new-password/link", {
        form: { email: "mark@example.com" },
        clientIp: "10.0.0.6",
      });
      await smtp.taken("mark@example.com");
      assert.ok(mark.userId);
      assert.equal(smtp.mails.filter(({ to }) => to.includes("dee@example.com")).length, 5);
    });

    await t.step("a link is void once the address was changed", async () => {
      const { cookie } = await person("eli@example.com");
      await ask("/new-password/link", { form: { email: "eli@example.com" }, clientIp: "10.0.0.7" });
      const { text } = await smtp.taken("eli@example.com");
      const token = /token=([^\s]+)/.exec(text)![1];
      await ask("/account/email", {
        form: { email: "eli@new.example", password: PASSWORD },
        cookie,
      });
      const form = { token, password: "whoever reads the old mailbox" };
      assert.equal((await ask("/new-password", { form })).status, 422);
    });

    await t.step(
      "an invitation goes by mail, and is shown as a link when it does not",
      async () => {
        const { cookie } = await person("hal@example.com", "admin");
        const invite = (email: string, of = app) =>
          ask("/workspace/invitations", { form: { role: "viewer", days: "7", email }, cookie, of });
        const wrong = await invite("not an address");
        assert.equal(wrong.status, 422);
        assert.match(wrong.html, /<option value="viewer" selected/, "else a member is invited");
        const sent = await invite("new@example.com");
        assert.equal(sent.location, "/workspace?said=invitation-sent", sent.html);
        const { text } = await smtp.taken("new@example.com");
        assert.match(text, /hal invites you to the workspace My workspace at Mooring, as viewer/);
        const token = /\/join\?token=(mwi_\S+)/.exec(text)![1];
        assert.match((await ask(`/join?token=${token}`)).html, /Join My workspace/);
        assert.equal(lines.join("\n").includes(token), false);
        const two = await invite("x@example.com,y@example.com");
        assert.equal(two.status, 422, "one mail goes to one address");
        const bySelf = await invite("new@example.com", silent.app);
        assert.match(bySelf.html, /id="invitation-link"/);
        const { app: broken, close } = await openPageApp({ db, identity }, {
          sendMail: () => Promise.reject(new Error("Nobody takes it")),
        });
        const unsent = await invite("new@example.com", broken);
        assert.match(unsent.html, /did not take the mail to new@example.com/);
        assert.match(unsent.html, /\/join\?token=mwi_/);
        await close();
      },
    );

    await t.step("without mail the page says what the machine's owner does", async () => {
      const page = await ask("/new-password", { of: silent.app });
      assert.match(page.html, /deno task reset-password/);
      assert.doesNotMatch(page.html, /<form[^>]*new-password\/link/);
      const form = { email: "cy@example.com" };
      assert.equal((await ask("/new-password/link", { form, of: silent.app })).status, 303);
    });

    await t.step(
      "the key of a second factor is a QR code too, and codes are made anew",
      async () => {
        const { cookie } = await person("fay@example.com");
        const made = await ask("/account/second-factor", { form: { password: PASSWORD }, cookie });
        assert.match(made.html, /<svg class="qr" role="img" aria-label="[^"]+"/);
        assert.match(made.html, /download="mooring-backup-codes.txt" href="data:text\/plain/);
        const codes = (html: string) =>
          /id="backup-codes"[^>]*><code>([^<]+)/.exec(html)![1].split("\n");
        const before = codes(made.html);
        const early = await ask("/account/second-factor/codes", {
          form: { codes: PASSWORD },
          cookie,
        });
        assert.equal(early.status, 422, "it is not on yet");
        await owner`update auth.users set "twoFactorEnabled" = true where email = 'fay@example.com'`;
        const wrong = await ask("/account/second-factor/codes", {
          form: { codes: "wrong" },
          cookie,
        });
        assert.equal(wrong.status, 422);
        assert.match(wrong.html, /<details class="confirm" open/);
        const renewed = await ask("/account/second-factor/codes", {
          form: { codes: PASSWORD },
          cookie,
        });
        assert.equal(renewed.status, 200, renewed.html);
        assert.equal(codes(renewed.html).some((code) => before.includes(code)), false);
        assert.equal(
          (await ask("/account/security", { cookie })).html.includes("backup-codes"),
          false,
        );

        const asked = await signIn("fay@example.com", PASSWORD);
        const byCode = (code: string) =>
          ask("/sign-in/code", { form: { code }, cookie: asked.cookie, clientIp: "10.0.0.8" });
        assert.equal((await byCode(before[0])).status, 422, "those before serve no more");
        assert.equal((await byCode(codes(renewed.html)[0])).location, "/");
      },
    );

    await t.step("an address without a name has no passkeys, and says why", async () => {
      const { cookie } = await person("gus@example.com");
      assert.match((await ask("/account/security", { cookie })).html, /Browsers bind passkeys/);
      assert.doesNotMatch((await ask("/sign-in")).html, /passkey"/);
      assert.equal((await ask("/sign-in/passkey/options", { form: {} })).status, 404);
    });

    await smtp.close();
    await silent.close();
    await close();
    await world.close();
  },
});
