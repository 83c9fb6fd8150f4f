"""A believable portfolio's life, played against a running sandbox over HTTP."""

from embarc.sandbox.simulate.plan import Command, Scale, make_plan
from embarc.sandbox.simulate.play import Answer, Api, Played, PlayFailed, play

__all__ = ["Answer", "Api", "Command", "PlayFailed", "Played", "Scale", "make_plan", "play"]
