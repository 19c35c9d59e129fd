// node serve.js: the API and two services that call it, ready to be tried.
import { once } from 'node:events';
import { addKey, createDatabase, newSecret, owners, startApi, startService } from './deploy.js';

const database = 'internal';
await createDatabase(database);
const secrets = { mail: await newSecret(), analysis: await newSecret() };
for (const [name, secret] of Object.entries(secrets)) await addKey(database, owners[name], secret);
const api = await startApi(database, { port: process.env.BOUNCER_PORT });
const mail = await startService(api, secrets.mail, 'POST /mails');
const analysis = await startService(api, secrets.analysis, 'GET /contacts');
console.log(`
The API and two services answer. In another shell, let each service call the API with its own key:

    curl -s ${mail.url}
    curl -s ${analysis.url}

Call the API as the mail service does, then do what only the mail service may as the analysis service:

    curl -s -H 'X-Internal-Api-Key: ${secrets.mail}' ${api.url}/contacts
    curl -s -X POST -H 'X-Internal-Api-Key: ${secrets.analysis}' ${api.url}/mails

Ask why a key is refused (try any):

    ${process.env.PSQL} -h ${process.env.PGHOST} -U postgres ${database} -c "SELECT explain_api_key('service_keys'::regclass, 'some-key')"

Ctrl-C ends all of it. What the API logs:
`);
let shown = 0;
const show = setInterval(() => {
    for (; shown < api.log.length; shown++) console.log(api.log[shown]);
}, 200);
await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')]);
clearInterval(show);
await Promise.all([mail.stop(), analysis.stop(), api.stop()]);
