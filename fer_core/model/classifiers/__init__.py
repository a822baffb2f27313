"""Classifiers: from what is read of a clip to its scores; fitted by `rivals/`, kept in a model's two files.

classifier.py        what one is: scores, and a record and tensors from which it is built again
head.py              FC layers over every frame, and a rule that joins the frames' scores (the thesis)
networks.py          networks over whole clips: frame attention, LSTM, C3D
support_vectors.py   a linear SVM of a descriptor; forest.py: a random forest of one; fused.py: two classifiers joined
build.py             record and tensors -> classifier
"""
