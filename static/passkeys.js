// Passkeys: a page cannot ask the browser for one without script. The server's forms do the rest.

const isSupported = Boolean(globalThis.PublicKeyCredential?.parseRequestOptionsFromJSON);
/** The server forgets a question after five minutes. */
const OFFER_MS = 4 * 60_000;
/** Ends the offer in the address's field: a browser asks one thing at a time. */
let offered = new AbortController();

/** What the server asks the browser for; what is in the form goes along. */
async function questionOf(form) {
  const body = new URLSearchParams(new FormData(form));
  const response = await fetch(form.dataset.options, { method: "POST", body });
  if (!response.headers.get("content-type")?.startsWith("application/json")) {
    throw new Error(
      response.status === 401
        ? "Your session is over: sign in in another tab, then try again."
        : `Mooring did not take this (${response.status}). Reload the page and try again.`,
    );
  }
  const { options, mistake } = await response.json();
  if (!response.ok) throw new Error(mistake);
  return options;
}

const ways = {
  create: (options) =>
    navigator.credentials.create({
      publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options),
    }),
  get: (options, more) =>
    navigator.credentials.get({
      publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options),
      ...more,
    }),
};

/** Sends the form with the browser's answer in it, and without the password, which has done its work. */
function send(form, credential) {
  form.elements.answer.value = JSON.stringify(credential.toJSON());
  for (const field of form.querySelectorAll("[type=password]")) field.disabled = true;
  form.submit();
}

function say(form, error) {
  const words = {
    NotAllowedError: "That was cancelled, or took too long. Nothing is changed.",
    InvalidStateError: "This device or password manager has a passkey of yours already.",
    SecurityError: "The address in your browser is not Mooring's own (BASE_URL): open it there.",
    TypeError: "Mooring could not be reached. Try again.",
  };
  form.querySelector("[role=alert]").textContent = words[error.name] ?? error.message;
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.dataset.passkey || form.elements.answer.value) return;
  event.preventDefault();
  form.querySelector("[role=alert]").textContent = "";
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    offered.abort();
    send(form, await ways[form.dataset.passkey](await questionOf(form)));
  } catch (error) {
    say(form, error);
  } finally {
    button.disabled = false;
  }
});

/** Offers passkeys among what the browser fills into the address's field, as long as the page is open. */
async function offer(form) {
  if (!await PublicKeyCredential.isConditionalMediationAvailable?.()) return;
  for (;;) {
    offered = new AbortController();
    const timer = setTimeout(() => offered.abort("renewed"), OFFER_MS);
    const { signal } = offered;
    try {
      send(form, await ways.get(await questionOf(form), { mediation: "conditional", signal }));
      return;
    } catch {
      // Whoever presses the button is told; the field stays one to type in.
      if (signal.reason !== "renewed") return;
    } finally {
      clearTimeout(timer);
    }
  }
}

for (const form of document.querySelectorAll("[data-passkey]")) {
  form.classList.toggle("unsupported", !isSupported);
  if (!isSupported) continue;
  form.querySelector("button").disabled = false;
  if (form.dataset.passkey === "get") offer(form);
}
