import type { Child } from "hono/jsx";
import type { Person } from "../models/identity.ts";
import { Form } from "./form.tsx";
import { Field } from "./parts.tsx";
import { useUrl } from "./url.ts";

/** The pages of a person's own account. */
const PAGES = [
  { path: "/account", name: "You" },
  { path: "/account/security", name: "Signing in" },
  { path: "/account/tokens", name: "Access tokens" },
];

/** What every page of the account begins with. Links, and no ARIA tabs: each is a page of its own. */
export function AccountPages({ at, children }: { at: string; children?: Child }) {
  const url = useUrl();
  return (
    <>
      <h1>Your account</h1>
      <nav class="tabs" aria-label="Pages of your account">
        {PAGES.map(({ path, name }) => (
          <a href={url(path)} aria-current={path === at ? "page" : undefined}>{name}</a>
        ))}
      </nav>
      {children}
    </>
  );
}

export interface AccountProps {
  person: Person;
  sendsMail: boolean;
  /** What was typed, when it did not hold. */
  values?: { name?: string; email?: string };
  mistakes?: Record<string, string>;
}

/** Who a person is. */
export function Account({ person, sendsMail, values = {}, mistakes = {} }: AccountProps) {
  const url = useUrl();
  return (
    <AccountPages at="/account">
      <p class="lead">
        Your account is yours in all <a href={url("/workspaces")}>workspaces</a> that you are in.
      </p>
      <div class="columns">
        <section class="card" aria-labelledby="account-name">
          <h2 id="account-name">Name</h2>
          <Form action={url("/account/name")} class="inline">
            <Field
              name="name"
              label="Your name"
              required
              autocomplete="name"
              value={values.name ?? person.name}
              mistake={mistakes.name}
            />
            <button>Save</button>
          </Form>
        </section>
        <section class="card" aria-labelledby="account-email">
          <h2 id="account-email">Email address</h2>
          <Form action={url("/account/email")}>
            <Field
              name="email"
              label="You sign in with"
              type="email"
              required
              autocomplete="email"
              value={values.email ?? person.email}
              mistake={mistakes.email}
              help={sendsMail
                ? "A link to a new password is sent here. The address before is told of a change."
                : undefined}
            />
            <Field
              name="password"
              label="Your password"
              type="password"
              required
              autocomplete="current-password"
              mistake={mistakes.password}
              help="So that an open session alone does not change it."
            />
            <button>Change the address</button>
          </Form>
        </section>
      </div>
    </AccountPages>
  );
}
