import type { MailLink } from "../models/identity.ts";
import { Form } from "./form.tsx";
import { Mark } from "./layout.tsx";
import { MailLinkFields } from "./mail_link.tsx";
import { Field, Mistake } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** The way back in for whoever forgot their password: by mail, or by the machine that Mooring runs on. */
export function ForgottenPassword(
  { sendsMail, email, mistake }: { sendsMail: boolean; email?: string; mistake?: string },
) {
  const url = useUrl();
  return (
    <section class="card door">
      <h1>
        <Mark /> Forgotten password
      </h1>
      {sendsMail
        ? (
          <>
            <p>A link by which you choose another one is sent to you.</p>
            <Mistake>{mistake}</Mistake>
            <Form action={url("/new-password/link")}>
              <Field
                name="email"
                label="Email address"
                type="email"
                required
                autocomplete="username"
                value={email}
                help="The one that you sign in with. The link works once, for an hour."
              />
              <button>Send the link</button>
            </Form>
          </>
        )
        : (
          <>
            <p>
              This Mooring sends no mail. Whoever has the machine that it runs on can make you a
              link, in Mooring's directory:
            </p>
            <pre tabindex={0}><code>deno task reset-password you@example.com</code></pre>
            <p>
              In Docker it is{" "}
              <code>docker compose run --rm app reset-password you@example.com</code>.
            </p>
          </>
        )}
      <p>
        <a href={url("/sign-in")}>Back to signing in</a>
      </p>
    </section>
  );
}

export interface NewPasswordProps {
  link: MailLink;
  /** The link was right, and is spent: the account's code is asked for as well. */
  asksForCode?: boolean;
  mistakes?: Record<string, string>;
}

/** Where such a link leads. */
export function NewPassword({ link, asksForCode, mistakes = {} }: NewPasswordProps) {
  const url = useUrl();
  return (
    <section class="card door">
      <h1>
        <Mark /> A new password
      </h1>
      {link.email && (
        <p>
          For <strong>{visibleText(link.email)}</strong>.
        </p>
      )}
      {asksForCode
        ? (
          <p>
            The link is right. Your account asks for a code as well: type the password once more.
          </p>
        )
        : <p>With it you are signed out everywhere, and sign in anew.</p>}
      <Mistake>{mistakes.link}</Mistake>
      <Form action={url("/new-password")}>
        {link.type
          ? <MailLinkFields link={link} />
          : <input type="hidden" name="token" value={link.token} />}
        {asksForCode && (
          <Field
            name="code"
            label="Code"
            required
            autocomplete="one-time-code"
            mistake={mistakes.code}
            help="Six digits from your authenticator app."
          />
        )}
        <Field
          name="password"
          label="New password"
          type="password"
          required
          minlength={10}
          autocomplete="new-password"
          mistake={mistakes.password}
          help="At least 10 characters. A few random words make a good one."
        />
        <button>Set the password</button>
      </Form>
      <p>
        <a href={url("/new-password")}>Ask for another link</a>
      </p>
    </section>
  );
}
