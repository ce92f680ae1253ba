import type { SignInOffers } from "../models/identity.ts";
import { Form } from "./form.tsx";
import { useUrl } from "./url.ts";
import { Mark } from "./layout.tsx";
import { Field, Mistake } from "./parts.tsx";
import { PasskeySignIn } from "./passkeys.tsx";

/** The set-up page: makes the owner's account, once, with the code from the console. */
export function Setup(props: {
  mistakes: Record<string, string>;
  mistake?: string;
  values: Record<string, string>;
}) {
  const url = useUrl();
  return (
    <section class="card door">
      <h1>
        <Mark /> Set up Mooring
      </h1>
      <p>Create the owner's account. Everyone else is invited from inside.</p>
      <Mistake>{props.mistake}</Mistake>
      <Form action={url("/setup")}>
        <Field
          name="code"
          label="One-time code"
          required
          value={props.values.code}
          mistake={props.mistakes.code}
          placeholder="abcd-efgh"
          help="Printed on the console where Mooring was started."
        />
        <Field
          name="email"
          label="Email address"
          type="email"
          required
          autocomplete="email"
          value={props.values.email}
          mistake={props.mistakes.email}
        />
        <Field
          name="name"
          label="Your name"
          required
          autocomplete="name"
          value={props.values.name}
          mistake={props.mistakes.name}
        />
        <Field
          name="password"
          label="Password"
          type="password"
          required
          minlength={10}
          autocomplete="new-password"
          mistake={props.mistakes.password}
          help="At least 10 characters. A few random words make a good one."
        />
        <button>Create the account</button>
      </Form>
    </section>
  );
}

export interface SignInProps {
  mistake?: string;
  email?: string;
  next: string;
  hasPasskeys: boolean;
  /** Through a mailbox or another site; null where there is no such way. */
  elsewhere: SignInOffers | null;
  /** Why a passkey was not taken. */
  passkeyMistake?: string;
}

export function SignIn(props: SignInProps) {
  const { elsewhere } = props;
  return (
    <section class="card door">
      <h1>
        <Mark /> Sign in to Mooring
      </h1>
      <Mistake>{props.mistake}</Mistake>
      {(!elsewhere || elsewhere.byEmail) && <PasswordSignIn {...props} />}
      {elsewhere && <SignInElsewhere {...props} elsewhere={elsewhere} />}
    </section>
  );
}

function PasswordSignIn(props: SignInProps) {
  const url = useUrl();
  return (
    <>
      <Form action={url("/sign-in")}>
        <input type="hidden" name="next" value={props.next} />
        <Field
          name="email"
          label="Email address"
          type="email"
          required
          autocomplete={props.hasPasskeys ? "username webauthn" : "username"}
          value={props.email}
        />
        <Field
          name="password"
          label="Password"
          type="password"
          required
          autocomplete="current-password"
        />
        <button>Sign in</button>
      </Form>
      {props.hasPasskeys && <PasskeySignIn next={props.next} mistake={props.passkeyMistake} />}
      <p>
        <a href={url("/new-password")}>Forgotten your password?</a>
      </p>
    </>
  );
}

function SignInElsewhere(
  { elsewhere, next, email }: SignInProps & { elsewhere: SignInOffers },
) {
  const url = useUrl();
  return (
    <>
      {elsewhere.providers.map(({ id, name }) => (
        <p>
          <a
            class="button quiet"
            rel="nofollow"
            href={`${url(`/sign-in/with/${encodeURIComponent(id)}`)}?next=${
              encodeURIComponent(next)
            }`}
          >
            Sign in with {name}
          </a>
        </p>
      ))}
      {elsewhere.byEmail && (
        <details>
          <summary>Sign in by a link in a mail</summary>
          <Form action={url("/sign-in/link")}>
            <input type="hidden" name="next" value={next} />
            <Field
              name="linkEmail"
              label="Your email address"
              type="email"
              required
              autocomplete="email"
              value={email}
              help="The link is best opened in this browser."
            />
            <button class="quiet">Send me a link</button>
          </Form>
        </details>
      )}
      {!elsewhere.byEmail && elsewhere.providers.length === 0 && (
        <p>Signing in is turned off in this Supabase project: its owner turns a way on there.</p>
      )}
    </>
  );
}

/** Asks for the code beside the password, or whatever else signed in. */
export function SignInCode(
  props: { mistake?: string; next: string; hasBackupCodes: boolean },
) {
  const url = useUrl();
  return (
    <section class="card door">
      <h1>
        <Mark /> One more thing
      </h1>
      <p>So far you are right. Your account asks for a code as well.</p>
      <Mistake>{props.mistake}</Mistake>
      <Form action={url("/sign-in/code")}>
        <input type="hidden" name="next" value={props.next} />
        <Field
          name="code"
          label="Code"
          required
          autocomplete="one-time-code"
          help={props.hasBackupCodes
            ? "Six digits from your authenticator app, or one of your backup codes."
            : "Six digits from your authenticator app."}
        />
        <button>Sign in</button>
      </Form>
      <p>
        <a href={`${url("/sign-in")}?next=${encodeURIComponent(props.next)}`}>Begin again</a>
      </p>
    </section>
  );
}

/** A page for what went wrong: what happened, and what to do. */
export function Problem(props: {
  title: string;
  message: string;
  requestId?: string;
  /** Where one goes on from here. */
  next?: { name: string; path: string };
}) {
  const url = useUrl();
  const { name, path } = props.next ?? { name: "To the overview", path: "/" };
  return (
    <section class="card door">
      <h1>{props.title}</h1>
      <p>{props.message}</p>
      {props.requestId && (
        <p class="help">
          Request <code>{props.requestId}</code>: the log has more under this id.
        </p>
      )}
      <p>
        <a class="button" href={url(path)}>{name}</a>
      </p>
    </section>
  );
}
