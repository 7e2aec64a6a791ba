"""From boxes of labels to boxes of a detector that learned from them, round by round.

training_boxes      the boxes of a run as a detector learns from them: chosen, weighted, ignored
true_boxes          true boxes of a run's images: alone, or instead of the mined ones
class_agnostic      detectors that learn where objects are, apart from what they are
detector_warnings   what a detector learns from: warnings of the localizer, few boxes
verdict_comparison  whether a round is better, by what people said of samples of both
rounds              training the detector of a round; whether its boxes are better; the result
"""
