"""Which texts are explanations: what a model in trouble says is none, what is said about such sentences is one."""

import pytest

from sae_auto_interp.prompting.explanations import MOST_CHARACTERS, why_no_explanation

REFUSALS = """
I'm sorry, but I cannot help with this request.
I’m sorry, but I can’t assist with that.
"I'm sorry, but I cannot help with this request."
I'm sorry, I can't.
I am sorry
I cannot help with that.
I can't determine what the feature is about.
I am unable to provide an explanation for this.
I do not know.
I don't know what this feature does.
I'm not able to identify a pattern in the tokens.
Sorry, this is not something I can help with.
Sorry, but I am not able to answer.
My apologies, but I cannot assist.
I apologize, but I cannot fulfil this request.
Unfortunately, I cannot see a pattern.
As an AI language model, I cannot explain this.
I'm just a language model and can't help with that.
I must decline to answer.
I'm afraid I can't do that.
I think I cannot help with that.
I need more context, I can't tell.
We cannot determine this from the excerpts.
Es tut mir leid, ich kann nicht helfen.
Lo siento, no puedo ayudar con eso.
抱歉, 我无法回答。
"""
NO_FINDINGS = """
N/A
n.a.
NA
none
None.
(none)
"N/A"
null
unknown
-
—
...
???
not applicable
*None*
It is not clear what this neuron fires on.
It's unclear.
It is difficult to say what the tokens have in common.
Unable to determine.
Cannot be determined from the given excerpts.
There is no clear pattern in the excerpts.
No clear pattern.
no discernible common pattern among the tokens
Not enough information
Insufficient context to determine the feature
The pattern is unclear.
The excerpts have nothing in common.
The feature has no clear pattern.
"""
PLACEHOLDERS = """
<your explanation here>
[short description]
your sentence
your label
{explanation}
[EXPLANATION]
<one sentence describing what the feature fires on>
(your answer here)
[insert a concise explanation]
insert explanation here
Write your explanation here.
TBD
"""
ERROR_TEXTS = """
Error: request timed out
ERROR: context length exceeded
openai.RateLimitError: too many requests
[ERROR] model not loaded
HTTP 429: Too Many Requests
502 Bad Gateway
Error 500
Internal Server Error
Traceback (most recent call last): File x
Request timed out.
the request failed with status 500
An error occurred while generating the response.
Rate limit exceeded, please try again later
Something went wrong
The server is overloaded. Please try later.
{"error": {"message": "x"}}
<!DOCTYPE html><html>
"""
EXPLANATIONS = """
phrases of apology such as 'I'm sorry'
"I'm sorry" and other apologies
'I cannot' and similar refusals
I'm sorry phrases
I don't know statements in dialogue
I can't / I won't contractions
sorry
sorry, apologies, and regret
sorry messages in customer support
sorry for your loss condolences
refusals by a chatbot: I'm sorry, but as an AI
unfortunately and other adverbs of regret
I, the first-person pronoun
I am, I was and other first-person forms
as an example of something
none of the above
the word none
no pattern matching in regular expressions
not enough money
nothing, none and other negatives
the phrase "not applicable" in tables
N/A entries in tables
missing values such as N/A and null
null checks in code
unable to + verb constructions
words meaning that something cannot be determined
words expressing lack of clarity such as 'unclear'
unknown quantities in equations
it is clear that ... arguments
it's difficult to overstate clauses
there is no doubt expressions
hard to find items
can tell and could say, verbs of saying
the pattern of parallel clauses
placeholders such as <your name here>
[MASK] tokens
[sentence-final punctuation]
sentence beginnings
your
(words about dogs)
<div>
()
==
"-"
→
give and take phrases
insert and update statements in SQL
writing prompts: 'write your answer here'
the word error in log messages
error
Error handling code
error messages such as 'Error: file not found'
404 error pages and missing resources
HTTP status codes such as 404 and 500
Internal Server Error messages
exceptions in Java stack traces
timeouts and failed requests in logs
connection refused messages
"Connection refused" in network logs
server failed login attempts
something wrong
limit exceeded
"""


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (kind, text)
        for kind, texts in {
            "refusal": REFUSALS,
            "no_finding": NO_FINDINGS,
            "placeholder": PLACEHOLDERS,
            "error_text": ERROR_TEXTS,
        }.items()
        for text in lines(texts)
    ],
)
def test_what_a_model_in_trouble_says_is_no_explanation(kind: str, text: str) -> None:
    why = why_no_explanation(text)
    assert why is not None
    assert why.kind == kind
    assert text[:20] in why.message.replace("\\'", "'"), "the message shows what was said"


@pytest.mark.parametrize("text", lines(EXPLANATIONS))
def test_what_is_said_about_trouble_is_an_explanation(text: str) -> None:
    assert why_no_explanation(text) is None


def test_a_text_beyond_the_bound_is_a_loop() -> None:
    assert why_no_explanation("dogs, " * 2000).kind == "too_long"  # pyright: ignore[reportOptionalMemberAccess]
    assert why_no_explanation("d" * MOST_CHARACTERS) is None
