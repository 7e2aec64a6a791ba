"""From boxes of labels to boxes of a detector that learned from them, round by round.

training_boxes   the boxes of a run as a detector learns from them: chosen, weighted, ignored
rounds           training the detector of a round; whether its boxes are better; the result
"""
