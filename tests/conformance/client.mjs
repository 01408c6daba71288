// Runs the suite's tests against a cache, and prints JSON: which tests there are, how they went.
//
//     node client.mjs BASE_URL shared|private quiet|dump [TEST_ID ...]
//
// It is copied to where the package is installed, since imports are looked up from the file that
// has them. The suite's selection for a private cache is the one it makes for browsers. With
// `dump` the suite shows the messages of each test; they go to stderr, out of the way of the JSON.

import fetch from 'node-fetch'
import { getResults, runTests } from 'http-cache-tests/client/runner.mjs'
import baseSuites from 'http-cache-tests/tests/index.mjs'
import surrogateControl from 'http-cache-tests/tests/surrogate-control.mjs'

const [base, mode, verbosity, ...ids] = process.argv.slice(2)
const suites = [...baseSuites, surrogateControl]

function describe (suite, test) {
  return {
    id: test.id,
    name: test.name,
    suite: suite.name,
    kind: test.kind ?? 'required',
    depends_on: test.depends_on ?? [],
    browser_only: test.browser_only === true,
    browser_skip: test.browser_skip === true
  }
}

const tests = suites.flatMap(suite => suite.tests.map(test => describe(suite, test)))

function chosen (suite) {
  return suite.tests
    .filter(test => ids.length === 0 || ids.includes(test.id))
    .map(test => ({ ...test, dump: verbosity === 'dump' }))
}

console.log = console.error
await runTests(
  suites.map(suite => ({ ...suite, tests: chosen(suite) })),
  fetch,
  mode === 'private',
  base
)
process.stdout.write(JSON.stringify({ tests, results: getResults() }))
