import { limits } from '@lenserfight/schemas'
import type { Argv } from 'yargs'
import { asVoid, type Choose } from './act.ts'

/** Who is signed in. */
export const sessionCommands = (cli: Argv, choose: Choose): Argv =>
  cli
    .command(
      'login',
      'Sign in: register a session key for your account',
      (login) =>
        login
          .option('token-file', {
            type: 'string',
            requiresArg: true,
            describe: 'A sign-in token bound to the nonce; - is standard input',
          })
          .option('nonce', { type: 'boolean', describe: 'Print the nonce to get that token with' })
          .option('dev', { type: 'boolean', describe: 'Ask the development issuer of the local stack' })
          .option('as', { type: 'string', requiresArg: true, implies: 'dev', describe: 'Sign in as this name' })
          .option('stack', {
            type: 'string',
            requiresArg: true,
            implies: 'dev',
            describe: 'The stack’s stack.json; else the nearest .local/stack.json',
          })
          .conflicts('dev', ['token-file', 'nonce'])
          .example('$0 login --dev --as alice', 'with the stack that `npm start` runs')
          .example('$0 login --gateway gateway.json --token-file -', 'with a token from elsewhere'),
      (args) => choose(asVoid(async (context) => (await import('../commands/login.ts')).login(context, args))),
    )
    .command(
      'logout',
      'End the session at the gateway, and forget its key',
      (logout) =>
        logout
          .option('all', { type: 'boolean', describe: 'End every other sign-in of the account too; API keys stay' })
          .option('local', { type: 'boolean', describe: 'Forget the key here alone, with no gateway to tell' })
          .conflicts('local', 'all')
          .example('$0 logout', 'this machine’s own identity stays')
          .example('$0 logout --all', 'after a laptop was lost'),
      (args) => choose(asVoid(async (context) => (await import('../commands/logout.ts')).logout(context, args))),
    )
    .command(
      'whoami',
      'In whose name this machine speaks: a sign-in, or LENSERFIGHT_API_KEY',
      (whoami) => whoami.example('$0 whoami --json', 'for programs'),
      () => choose(asVoid(async (context) => (await import('../commands/whoami.ts')).whoami(context))),
    )
    .command(
      'sessions',
      'The account’s sign-ins and API keys',
      (sessions) =>
        sessions
          .command(
            'revoke <id>',
            'End one for ever, by its id or the beginning of it',
            (revoke) =>
              revoke
                .positional('id', {
                  type: 'string',
                  demandOption: true,
                  describe: 'Its id, or 8 or more characters that only its id begins with',
                })
                .example('$0 sessions revoke 1f0c83aa', 'one that `lf sessions` lists'),
            ({ id }) =>
              choose(asVoid(async (context) => (await import('../commands/sessions.ts')).revokeSession(context, id))),
          )
          .example('$0 sessions', 'where you are signed in'),
      () => choose(asVoid(async (context) => (await import('../commands/sessions.ts')).sessions(context))),
    )
    .command(
      'api-keys',
      'The account’s API keys',
      (keys) => apiKeyCommands(keys, choose),
      () => choose(asVoid(async (context) => (await import('../commands/api-keys.ts')).apiKeys(context))),
    )

const days = (value: number): number => {
  if (!Number.isInteger(value) || value < 1 || value > limits.apiKeyMaxDays) {
    throw new RangeError(`days are a whole number from 1 to ${limits.apiKeyMaxDays}`)
  }
  return value
}

const keyName = (value: string): string => {
  if (!/^[^\p{C}]+$/u.test(value) || [...value].length > limits.deviceNameChars || value.trim() === '') {
    throw new RangeError(`a name has 1 to ${limits.deviceNameChars} characters`)
  }
  return value
}

const apiKeyCommands = (keys: Argv, choose: Choose): Argv =>
  keys
    .command(
      'create <name>',
      'Make an API key and print it, this once',
      (create) =>
        create
          .positional('name', { type: 'string', demandOption: true, coerce: keyName, describe: 'What you call it' })
          .option('may-approve', { type: 'boolean', default: false, describe: 'It may approve and revoke devices' })
          .option('expires-in-days', {
            type: 'number',
            default: 90,
            requiresArg: true,
            coerce: days,
            describe: 'When it ends',
          })
          .example('$0 api-keys create nightly-build --expires-in-days 30', 'for LENSERFIGHT_API_KEY'),
      ({ name, mayApprove, expiresInDays }) =>
        choose(
          asVoid(async (context) =>
            (await import('../commands/api-keys.ts')).createApiKey(context, { name, mayApprove, expiresInDays }),
          ),
        ),
    )
    .command(
      'revoke <name>',
      'End one for ever, by its name or id',
      (revoke) =>
        revoke
          .positional('name', { type: 'string', demandOption: true, describe: 'Its name, or its id' })
          .example('$0 api-keys revoke nightly-build', 'nothing that it signs is accepted any more'),
      ({ name }) =>
        choose(asVoid(async (context) => (await import('../commands/api-keys.ts')).revokeApiKey(context, name))),
    )
    .example('$0 api-keys', 'which there are, and until when')
