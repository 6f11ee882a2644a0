// The page's API: every reply is an object, every failure an Error with one line.

let secret = "";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function read(reply) {
  let body;
  try {
    body = await reply.json();
  } catch {
    body = {};
  }
  if (!reply.ok) throw new Refused(reply.status, body.error || `the server failed (${reply.status})`);
  return body;
}

async function sent(path, options) {
  try {
    return await fetch(path, options);
  } catch {
    throw new Refused(0, "the server cannot be reached; is star annotate running?");
  }
}

export async function get(path, query = {}) {
  const words = new URLSearchParams(query).toString();
  return read(await sent(words ? `${path}?${words}` : path));
}

export async function about() {
  const project = await get("/api/project");
  secret = project.secret;
  return project;
}

async function posted(path, body) {
  const headers = { "content-type": "application/json", "x-star-page": secret };
  return read(await sent(path, { method: "POST", headers, body: JSON.stringify(body) }));
}

export async function post(path, body) {
  try {
    return await posted(path, body);
  } catch (error) {
    // The server was started again: it has another secret, and nothing was recorded.
    if (error.status !== 403) throw error;
    await about();
    return posted(path, body);
  }
}
