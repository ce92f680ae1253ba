import type { MailLink } from "../models/identity.ts";
import { Form } from "./form.tsx";
import { Mark } from "./layout.tsx";
import { Mistake } from "./parts.tsx";
import { useUrl } from "./url.ts";
import { visibleText } from "./visible_text.ts";

/** Where a mail's link leads: what it would do, for whom, and the button that does it. */
export function ConfirmLink({ link, signedInAs, next, mistake }: {
  /** Null where it opens nothing. */
  link: MailLink | null;
  /** The address of whoever is signed in here. */
  signedInAs: string | null;
  next: string;
  mistake?: string;
}) {
  const url = useUrl();
  return (
    <section class="card door">
      <h1>
        <Mark /> {link?.type === "email_change" ? "Change your address" : "Sign in by your link"}
      </h1>
      <Mistake>{mistake}</Mistake>
      {link && (
        <Form action={url("/sign-in/confirm")}>
          {link.type === "email_change"
            ? <ChangedAddress email={link.email!} />
            : <Whose email={link.email!} signedInAs={signedInAs} />}
          <MailLinkFields link={link} />
          <input type="hidden" name="next" value={next} />
          <button>{link.type === "email_change" ? "Change the address" : "Sign in"}</button>
        </Form>
      )}
      <p>
        <a href={url(signedInAs ? "/" : "/sign-in")}>
          {signedInAs ? "Leave it, and stay as you are" : "Sign in another way"}
        </a>
      </p>
    </section>
  );
}

function Whose({ email, signedInAs }: { email: string; signedInAs: string | null }) {
  const isOther = signedInAs !== null && signedInAs.toLowerCase() !== email.toLowerCase();
  return (
    <>
      <p>
        You will be signed in as <strong>{visibleText(email)}</strong>.
      </p>
      {isOther && (
        <div class="notice">
          <p>
            Here you are signed in as {visibleText(signedInAs)}: that ends.
          </p>
        </div>
      )}
      <p class="help">
        Is that not your address, or did somebody else send you the link? Then leave it: you would
        be in their account, and what you enter there is theirs to read.
      </p>
    </>
  );
}

function ChangedAddress({ email }: { email: string }) {
  return (
    <p>
      From then on you sign in with{" "}
      <strong>{visibleText(email)}</strong>. Nobody is signed in by this.
    </p>
  );
}

/** What a link holds, for the form that it led to. */
export function MailLinkFields({ link }: { link: MailLink }) {
  return (
    <>
      <input type="hidden" name="token_hash" value={link.token} />
      <input type="hidden" name="type" value={link.type} />
      <input type="hidden" name="email" value={link.email} />
    </>
  );
}
