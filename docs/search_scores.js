// Sphinx's own scores; names of the API, and pages that are no pages of use, come after the others.
const LATER = [[/^api\/|sg_execution_times/, 0.4], [/^how-it-works\/|^(api|cli|design)$/, 0.8]];
Scorer = {
  score: ([page, , , , score]) =>
    LATER.reduce((sum, [later, share]) => (later.test(page) ? sum * share : sum), score),
  objNameMatch: 11, objPartialMatch: 6, objPrio: {0: 15, 1: 5, 2: -5}, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
};
