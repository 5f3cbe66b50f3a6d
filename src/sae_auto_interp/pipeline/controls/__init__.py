"""What scores are compared with: the lexical baseline, and the explanations of near features."""
